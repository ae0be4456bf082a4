//! How often a denial is told to the audit log: an attacker must not fill it.

use std::{net::IpAddr, time::Duration};

use granary_access::{Caller, Reason};

use super::few::Few;

/// Rows a minute for each principal, address and reason.
const MOST: u32 = 10;
/// Principals, addresses and reasons that are remembered.
const REMEMBERED: u64 = 20_000;

/// Denials of the last minute.
pub(crate) struct Denials(Few<(i64, Option<IpAddr>, Reason)>);

impl Denials {
    pub(crate) fn new() -> Self {
        Self(Few::new(MOST, Duration::from_secs(60), REMEMBERED))
    }

    /// Whether this one is to be told.
    pub(crate) fn is_news(&self, caller: &Caller, reason: Reason) -> bool {
        let id = caller.principal.ids().map_or(0, |(id, _)| id.0);
        self.0.takes((id, caller.origin.address, reason))
    }
}
