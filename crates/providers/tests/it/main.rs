//! Providers over real HTTP on loopback.
//!
//! The server here is a stand-in: a listener that answers canned documents, so that it can lie, hang and be too large. That
//! a real, certified provider works is tested with the whole server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod issuers;
mod log_in;
mod server;
