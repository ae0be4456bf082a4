//! Limits of requests by address, by user and by namespace.
//!
//! Nobody is queued: who may not is told at once when to come again. Replicas count together over Redis, if there is
//! one; while it does not answer, and without it, each process counts for itself.

mod gcra;
mod redis;

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context;
use granary_oci::RepositoryName;
use granary_registry::{Caller, Principal, Registry, network};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};
use tokio::runtime::Handle;

use self::{gcra::Local, redis::Shared};
use crate::{
    config::{Config, LimitsConfig, Rate},
    redis::Link,
};

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// An IPv4 address, or the network of an IPv6 one.
    Address(Option<IpAddr>),
    /// A user or robot, by number.
    Principal(i64),
    /// Those without credentials at an address: if all of them were one, any of them could lock out the others.
    Nobody(Option<IpAddr>),
    /// The first part of repository names, for those who have credentials.
    Namespace(Box<str>),
    /// The same for those who have none.
    Public(Box<str>),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(Some(address)) => write!(f, "address:{address}"),
            Self::Address(None) => f.write_str("address:unknown"),
            Self::Principal(number) => write!(f, "principal:{number}"),
            Self::Nobody(Some(address)) => write!(f, "nobody:{address}"),
            Self::Nobody(None) => f.write_str("nobody:unknown"),
            Self::Namespace(name) => write!(f, "namespace:{name}"),
            Self::Public(name) => write!(f, "public:{name}"),
        }
    }
}

/// What a limit is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Who sends requests, as far as the network says.
    Address,
    /// Who sends requests, as credentials prove.
    Principal,
    /// What they are about.
    Namespace,
}

impl By {
    /// Its word in metrics and answers.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Principal => "principal",
            Self::Namespace => "namespace",
        }
    }
}

/// A request is one too many.
#[derive(Debug, thiserror::Error)]
#[error(
    "too many requests: the limit of this {} is {rate}; try again after the seconds that Retry-After says",
    .by.word()
)]
pub(crate) struct Limited {
    /// Whose limit it is.
    pub(crate) by: By,
    /// The limit.
    pub(crate) rate: Rate,
    wait: Duration,
}

impl Limited {
    /// Whole seconds until a request can be taken.
    pub(crate) fn retry_after(&self) -> u64 {
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        seconds.max(1)
    }
}

/// One limit, if it is set.
struct Limit {
    by: By,
    rate: Option<Rate>,
    refused: AtomicU64,
}

impl Limit {
    fn new(by: By, rate: Option<Rate>) -> Self {
        Self {
            by,
            rate,
            refused: AtomicU64::new(0),
        }
    }
}

/// All limits of requests.
pub struct Limits {
    address: Limit,
    principal: Limit,
    namespace: Limit,
    local: Local,
    shared: Option<Shared>,
}

impl Limits {
    /// The limits that `config` sets. What is asked of Redis goes on in `runtime`.
    pub async fn open(
        config: &Config,
        registry: &Registry,
        runtime: Handle,
    ) -> anyhow::Result<Self> {
        let url = config.redis.url.as_ref();
        let shared = match url.filter(|_| config.limits.longest().is_some()) {
            None => None,
            Some(url) => {
                let meanwhile = "each replica counts requests for itself";
                let link = Link::new(url, meanwhile, runtime)
                    .with_context(|| format!("the address {url} in redis.url cannot be used"))?;
                // It is there: opening the registry made it.
                let catalog = registry.catalog();
                let installation = catalog.setting("store-id", String::new()).await?;
                Some(Shared::new(link, &installation))
            }
        };
        Ok(Self::new(&config.limits, shared))
    }

    fn new(config: &LimitsConfig, shared: Option<Shared>) -> Self {
        Self {
            address: Limit::new(By::Address, config.address),
            principal: Limit::new(By::Principal, config.principal),
            namespace: Limit::new(By::Namespace, config.namespace),
            local: Local::new(config.longest().unwrap_or(Duration::from_secs(1))),
            shared,
        }
    }

    /// Counts a request for where it comes from, before anything is done for it.
    pub(crate) async fn address(
        &self,
        from: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<(), Limited> {
        let Some(rate) = &self.address.rate else {
            return Ok(());
        };
        let whose = Whose::Address(from().map(network));
        self.take(&self.address, rate, whose).await
    }

    /// Counts a request for who sends it, once that is known.
    pub(crate) async fn principal(
        &self,
        Caller { principal, origin }: &Caller,
    ) -> Result<(), Limited> {
        let Some(rate) = &self.principal.rate else {
            return Ok(());
        };
        let whose = match principal {
            Principal::Known { id, .. } => Whose::Principal(id.0),
            Principal::Local | Principal::Anonymous | Principal::Operator => {
                Whose::Nobody(origin.address.map(network))
            }
        };
        self.take(&self.principal, rate, whose).await
    }

    /// Counts a request for the namespace it is about. Only for those who were let in: a stranger must neither use up a
    /// namespace's limit, nor learn from it whether others are at work there. Strangers who read what is public there have
    /// one of the same size among them.
    pub(crate) async fn namespace(
        &self,
        principal: &Principal,
        repository: &RepositoryName,
    ) -> Result<(), Limited> {
        let Some(rate) = &self.namespace.rate else {
            return Ok(());
        };
        let namespace = repository.namespace().into();
        let whose = match principal {
            Principal::Anonymous => Whose::Public(namespace),
            _ => Whose::Namespace(namespace),
        };
        self.take(&self.namespace, rate, whose).await
    }

    async fn take(&self, limit: &Limit, rate: &Rate, whose: Whose) -> Result<(), Limited> {
        let answer = match &self.shared {
            Some(shared) => shared.take(&whose, rate).await,
            None => None,
        };
        answer
            .unwrap_or_else(|| self.local.take(whose, rate))
            .map_err(|wait| {
                limit.refused.fetch_add(1, Relaxed);
                Limited {
                    by: limit.by,
                    rate: *rate,
                    wait,
                }
            })
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limits")
    }
}

/// What limits refused, for the metrics.
#[derive(Debug)]
pub(crate) struct LimitMetrics(pub(crate) Arc<Limits>);

impl Collector for LimitMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut refused = encoder.encode_descriptor(
            "granary_limited_requests",
            "Requests that a limit refused",
            None,
            MetricType::Counter,
        )?;
        for limit in [&self.0.address, &self.0.principal, &self.0.namespace] {
            if limit.rate.is_some() {
                let labels = [("limit", limit.by.word())];
                let count = ConstCounter::new(limit.refused.load(Relaxed));
                count.encode(refused.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_long_enough_and_never_none() {
        let seconds = |wait| {
            let (by, rate) = (By::Address, "1/s".parse().unwrap());
            Limited { by, rate, wait }.retry_after()
        };
        assert_eq!(seconds(Duration::from_nanos(1)), 1);
        assert_eq!(seconds(Duration::from_secs(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
    }

    #[tokio::test]
    async fn addresses_of_a_household_count_as_one() {
        let config = LimitsConfig {
            address: Some("2/h".parse().unwrap()),
            ..LimitsConfig::default()
        };
        let limits = Limits::new(&config, None);
        let ask = async |address: &str| {
            let from = address.parse().unwrap();
            limits.address(|| Some(from)).await.is_ok()
        };
        assert!(ask("2001:db8:1:2::1").await && ask("2001:db8:1:2:ffff::2").await);
        assert!(!ask("2001:db8:1:2::3").await);
        assert!(ask("2001:db8:1:3::1").await);
        assert!(ask("192.0.2.1").await && ask("::ffff:192.0.2.1").await);
        assert!(!ask("192.0.2.1").await && ask("192.0.2.2").await);
        assert_eq!(limits.address.refused.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn what_is_not_set_is_not_limited() {
        let limits = Limits::new(&LimitsConfig::default(), None);
        let name: RepositoryName = "acme/app".parse().unwrap();
        let nobody = Caller::from(&Principal::Anonymous);
        for _ in 0..10_000 {
            limits.address(|| None).await.unwrap();
            limits.principal(&nobody).await.unwrap();
            let who = &nobody.principal;
            limits.namespace(who, &name).await.unwrap();
        }
    }

    #[tokio::test]
    async fn strangers_do_not_use_up_what_a_namespace_may() {
        let config = LimitsConfig {
            namespace: Some("2/h".parse().unwrap()),
            ..LimitsConfig::default()
        };
        let limits = Limits::new(&config, None);
        let name: RepositoryName = "acme/app".parse().unwrap();
        for _ in 0..2 {
            let asked = limits.namespace(&Principal::Anonymous, &name);
            asked.await.unwrap();
        }
        let asked = limits.namespace(&Principal::Anonymous, &name);
        assert_eq!(asked.await.unwrap_err().by, By::Namespace);
        limits.namespace(&Principal::Local, &name).await.unwrap();
    }
}
