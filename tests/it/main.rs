//! The integration tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod harness;
#[path = "../../crates/registry/tests/it/issuer.rs"]
#[expect(dead_code, reason = "jobs of every kind are tried without a server")]
mod issuer;

mod accounts;
mod browsers;
mod catalog;
mod client;
mod collect;
mod configuration;
mod crash;
mod deletes;
mod export;
mod import;
mod import_bucket;
mod limits;
mod manifest_forms;
mod manifests;
mod mount;
mod namespaces;
mod null_characters;
mod office_permissions;
mod operations;
mod permissions;
mod power_loss_image;
mod pull;
mod ranges;
mod referrers;
mod relocation;
mod scrub;
mod shared_folder;
mod smuggling;
mod swaps;
mod tags;
mod threats;
mod tls;
mod upload;
mod upload_order;
mod upload_resume;
