//! What the use cases promise, over a real catalog and a real store.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod accounts;
mod audit;
mod begun;
mod bucket;
mod cache;
mod copies;
mod counting;
mod disconnects;
mod elsewhere;
mod export;
mod gate;
mod grouped;
mod groups;
mod hidden;
mod import;
mod issuer;
mod logins;
mod model;
mod namespaces;
mod own_robots;
mod publishers;
mod quota;
mod races;
mod removal;
mod removers;
mod robots;
mod scrub;
mod sessions;
mod signing_keys;
mod slow;
mod staged;
mod successors;
mod workload;
mod world;
