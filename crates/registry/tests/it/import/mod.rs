//! Imports of trees and layouts, whole and damaged.
#![expect(
    clippy::await_holding_lock,
    reason = "each test has a thread and a runtime of its own; the guard keeps others from setting failpoints"
)]

mod buckets;
mod case;
mod damage;
mod foreign;
mod in_place;
mod layout;
pub(crate) mod source;
mod tree;
