//! Toxiproxy: faults of the network between Granary and a back end.

use std::fmt::Display;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::service::{Plan, Service};
use crate::{TestbedError, http, ports, tools};

/// How often a proxy is tried on another port when somebody was faster.
const TRIES: usize = 4;

/// A toxiproxy without proxies.
#[derive(Debug)]
pub struct Toxiproxy {
    service: Service,
}

/// One proxy of a [`Toxiproxy`].
#[derive(Debug, Clone)]
pub struct Proxy {
    name: String,
    /// Where clients connect instead of the back end.
    pub listen: SocketAddr,
}

impl Toxiproxy {
    /// Starts a server.
    pub fn start() -> Result<Self, TestbedError> {
        let program = tools::find("toxiproxy-server")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("toxiproxy", &[port], |_, ports| {
                let port = ports.first().copied().unwrap_or_default();
                http::status(port, "/version") == Some(200)
            })?;
            plan.command([&program]);
            plan.command(["-host", "127.0.0.1", "-port", &port.to_string()]);
            Service::start(plan)
        })?;
        Ok(Self { service })
    }

    /// Where its own API listens.
    pub fn address(&self) -> SocketAddr {
        http::loopback(self.service.port())
    }

    /// Adds a proxy. The name is letters, digits, `-` and `_`.
    pub fn proxy(&self, name: &str, upstream: impl Display) -> Result<Proxy, TestbedError> {
        let mut attempt = 1;
        loop {
            let listen = http::loopback(ports::free()?);
            let proxy = json!({
                "name": name,
                "listen": listen.to_string(),
                "upstream": upstream.to_string(),
                "enabled": true,
            });
            match self.ask("POST", "/proxies", &proxy) {
                Ok(_) => {
                    return Ok(Proxy {
                        name: name.to_owned(),
                        listen,
                    });
                }
                Err(TestbedError::Refused { answer, .. })
                    if attempt < TRIES && answer.contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds a toxic, such as `{"type": "latency", "attributes": {"latency": 500}}`; `stream` is `downstream` unless said.
    pub fn toxic(&self, proxy: &Proxy, toxic: &Value) -> Result<(), TestbedError> {
        let path = format!("/proxies/{}/toxics", proxy.name);
        self.ask("POST", &path, toxic).map(drop)
    }

    /// Removes all toxics of the proxy.
    pub fn clear(&self, proxy: &Proxy) -> Result<(), TestbedError> {
        let path = format!("/proxies/{}/toxics", proxy.name);
        let toxics = self.ask("GET", &path, &Value::Null)?;
        for toxic in toxics.as_array().into_iter().flatten() {
            let name = toxic
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            self.ask("DELETE", &format!("{path}/{name}"), &Value::Null)?;
        }
        Ok(())
    }

    /// Cuts all connections and refuses new ones.
    pub fn disable(&self, proxy: &Proxy) -> Result<(), TestbedError> {
        self.set_enabled(proxy, false)
    }

    /// Takes connections again, on the same port.
    pub fn enable(&self, proxy: &Proxy) -> Result<(), TestbedError> {
        self.set_enabled(proxy, true)
    }

    fn set_enabled(&self, proxy: &Proxy, enabled: bool) -> Result<(), TestbedError> {
        let path = format!("/proxies/{}", proxy.name);
        self.ask("POST", &path, &json!({ "enabled": enabled }))
            .map(drop)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, TestbedError> {
        let what = format!("toxiproxy: {method} {path}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = http::request(self.service.port(), method, path, &body)
            .map_err(TestbedError::io(&what))?;
        if answer.status >= 300 {
            return Err(tools::refused(&what, &answer.body));
        }
        Ok(serde_json::from_str(&answer.body).unwrap_or_default())
    }
}
