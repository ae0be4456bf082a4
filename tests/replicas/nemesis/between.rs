//! Faults of the network between replicas and back ends.

use granary_testbed::Proxy;
use serde_json::{Value, json};

use super::{Link, Nemesis};
use crate::cluster::Links;

impl Nemesis<'_> {
    /// Cuts or slows the way to a back end, for one replica or for all.
    pub(super) fn hurt(&mut self, link: Link) -> String {
        let backends = self.backends();
        let count = backends.links.len();
        let hurt: Vec<usize> = if self.dice.chance(40) {
            (0..count).collect()
        } else {
            vec![self.dice.below(count)]
        };
        let toxic = self.toxic();
        for &number in &hurt {
            let proxy = proxy(&backends.links[number], link);
            match &toxic {
                None => backends.toxiproxy.disable(proxy).unwrap(),
                Some(toxic) => backends.toxiproxy.toxic(proxy, toxic).unwrap(),
            }
        }
        self.wait(700, 4000);
        let toxic = toxic.map_or_else(|| "cut".to_owned(), |toxic| toxic.to_string());
        format!("{link:?} for {hurt:?}: {toxic}")
    }

    /// How a connection is hurt; `None` if it is cut.
    fn toxic(&mut self) -> Option<Value> {
        let stream = *self.dice.pick(&["upstream", "downstream"]);
        let (name, attributes) = match self.dice.below(7) {
            0 | 1 => return None,
            2 => {
                let latency = self.dice.between(50, 800);
                (
                    "latency",
                    json!({"latency": latency, "jitter": latency / 2}),
                )
            }
            3 => ("bandwidth", json!({"rate": self.dice.between(20, 400)})),
            // Nothing comes through, and nobody is told.
            4 => ("timeout", json!({"timeout": 0})),
            5 => ("reset_peer", json!({"timeout": self.dice.between(0, 300)})),
            _ => {
                let most = self.dice.between(1000, 200_000);
                ("limit_data", json!({"bytes": most}))
            }
        };
        Some(json!({"type": name, "stream": stream, "attributes": attributes}))
    }

    pub(super) fn mend_links(&mut self) {
        let backends = self.backends();
        for links in &backends.links {
            for proxy in [&links.postgres, &links.s3, &links.redis] {
                backends.toxiproxy.clear(proxy).unwrap();
                backends.toxiproxy.enable(proxy).unwrap();
            }
        }
    }
}

fn proxy(links: &Links, link: Link) -> &Proxy {
    match link {
        Link::Postgres => &links.postgres,
        Link::S3 => &links.s3,
        Link::Redis => &links.redis,
    }
}
