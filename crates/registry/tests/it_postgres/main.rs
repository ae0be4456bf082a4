//! The same promises on a real PostgreSQL, and those that only several processes can break.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../it/accounts/mod.rs"]
mod accounts;
#[path = "../it/audit/mod.rs"]
mod audit;
mod audit_months;
#[path = "../it/bucket.rs"]
mod bucket;
#[path = "../it/cache.rs"]
mod cache;
mod chatty;
#[path = "../it/copies/mod.rs"]
mod copies;
#[path = "../it/counting.rs"]
mod counting;
#[path = "../it/disconnects.rs"]
mod disconnects;
#[path = "../it/elsewhere.rs"]
mod elsewhere;
mod figures;
#[path = "../it/gate.rs"]
mod gate;
#[path = "../it/groups.rs"]
mod groups;
#[path = "../it/hidden.rs"]
mod hidden;
#[path = "../it/import/mod.rs"]
mod import;
#[path = "../it/issuer.rs"]
mod issuer;
#[path = "../it/logins.rs"]
mod logins;
#[path = "../it/model/mod.rs"]
mod model;
#[path = "../it/namespaces.rs"]
mod namespaces;
#[path = "../it/own_robots.rs"]
mod own_robots;
#[path = "../it/publishers.rs"]
mod publishers;
#[path = "../it/quota.rs"]
mod quota;
#[path = "../it/races.rs"]
mod races;
mod reach;
#[path = "../it/removal.rs"]
mod removal;
mod removals;
#[path = "../it/removers.rs"]
mod removers;
mod replicas;
#[path = "../it/robots.rs"]
mod robots;
mod schema;
#[path = "../it/sessions.rs"]
mod sessions;
mod shared_statements;
#[path = "../it/signing_keys.rs"]
mod signing_keys;
mod standby;
#[path = "../it/successors.rs"]
mod successors;
#[path = "../it/workload.rs"]
mod workload;
#[path = "../it/world.rs"]
mod world;
