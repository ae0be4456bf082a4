//! The OpenAPI document.

use utoipa::OpenApi;

use crate::{
    api,
    auth::{login, session, token},
    health, v2,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Granary",
        description = "The OCI distribution API with compare-and-swap on tags and tag history, and what operators ask for.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        v2::lists::get_base,
        v2::lists::get_catalog,
        v2::lists::get_extensions,
        v2::lists::get_tags,
        v2::lists::get_referrers,
        v2::manifests::get_manifest,
        v2::manifests::put_manifest,
        v2::manifests::delete_manifest,
        v2::blobs::head_blob,
        v2::blobs::get_blob,
        v2::blobs::delete_blob,
        v2::uploads::post_upload,
        v2::uploads::patch_upload,
        v2::uploads::put_upload,
        v2::uploads::get_upload,
        v2::uploads::delete_upload,
        token::get_token,
        token::post_token,
        token::get_keys,
        login::get_login,
        login::get_callback,
        session::get_session,
        session::post_session,
        session::post_logout,
        session::get_providers,
        health::get_live,
        health::get_ready,
        health::get_metrics,
    )
)]
struct Document;

/// The document as JSON, ending in a newline.
pub fn document() -> anyhow::Result<String> {
    let document = Document::openapi().merge_from(api::Document::openapi());
    Ok(document.to_pretty_json()? + "\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_document_is_the_current_one() {
        let checked_in = include_str!("../../openapi/registry.json");
        assert!(
            super::document().unwrap() == checked_in,
            "openapi/registry.json is out of date: run `make openapi`"
        );
    }
}
