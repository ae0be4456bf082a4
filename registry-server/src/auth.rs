//! Who sends a request: what its headers show, the challenge that asks for credentials, and the token service.

mod challenge;
pub(crate) mod cookie;
pub(crate) mod login;
pub mod providers;
pub(crate) mod session;
pub(crate) mod token;

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, http::header::AUTHORIZATION};
use granary_identity::{parse_basic, parse_bearer};
use granary_registry::{Registry, Shown};

use self::providers::Providers;
use crate::limits::Limits;

pub(crate) use challenge::{Challenge, Place, Problem};

/// What the doors that look at credentials need, in the application's data.
pub(crate) struct Doors {
    /// Whose accounts they are.
    pub(crate) registry: Registry,
    /// Where this server is for its clients.
    pub(crate) place: Place,
    /// How many requests may come.
    pub(crate) limits: Arc<Limits>,
    /// Through whom people can log in.
    pub(crate) providers: Providers,
    /// How long a browser's session is good.
    pub(crate) session: Duration,
}

/// What a request shows of who sends it.
pub(crate) fn shown(request: &HttpRequest) -> Shown {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let Some(header) = headers.next() else {
        return Shown::Nothing;
    };
    // Of several headers nobody knows which one a proxy before this looked at.
    if headers.next().is_some() {
        return Shown::Unreadable;
    }
    let Ok(header) = header.to_str() else {
        return Shown::Unreadable;
    };
    match (parse_basic(header), parse_bearer(header)) {
        (Some((user, secret)), _) => Shown::Password { user, secret },
        (None, Some(token)) => Shown::Bearer(token),
        (None, None) => Shown::Unreadable,
    }
}
