//! The OpenAPI document.

/// The document as JSON, ending in a newline.
pub fn document() -> anyhow::Result<String> {
    anyhow::bail!("not built yet")
}
