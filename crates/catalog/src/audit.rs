//! The audit log (decision 29): who did what, and who was not let. Rows commit with what they tell of; the sealer chains
//! them later.

mod note;

pub(crate) use note::note;
pub use note::{Deed, action};
