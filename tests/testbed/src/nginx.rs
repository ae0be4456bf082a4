//! nginx as a load balancer before several replicas.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use crate::service::{Plan, Service};
use crate::{TestbedError, http, ports, tools};

/// An nginx that gives each request to the next replica.
#[derive(Debug)]
pub struct Nginx {
    service: Service,
}

impl Nginx {
    /// Starts nginx before replicas that may, but need not, run already.
    pub fn start(replicas: &[SocketAddr]) -> Result<Self, TestbedError> {
        let program = tools::find("nginx")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("nginx", &[port], |_, ports| {
                ports
                    .first()
                    .is_some_and(|port| http::connect(*port).is_ok())
            })?;
            let folder = plan.folder.path();
            let site = Self::config(http::loopback(port), replicas);
            fs::write(folder.join("site.conf"), site)
                .and_then(|()| fs::write(folder.join("nginx.conf"), MAIN))
                .map_err(TestbedError::io("the files of nginx"))?;
            let folder = folder.display().to_string();
            plan.last_signal = "TERM"; // its workers go with it
            plan.command([&program]);
            plan.command(["-p", &folder, "-c", "nginx.conf"]);
            plan.command(["-e", "stderr"]);
            if rustix::process::geteuid().is_root() {
                plan.command(["-g", "user root;"]); // the folder is ours alone
            }
            Service::start(plan)
        })?;
        Ok(Self { service })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        http::loopback(self.service.port())
    }

    /// The part of a configuration that says how Granary is served: what goes into `http { }`.
    pub fn config(listen: SocketAddr, replicas: &[SocketAddr]) -> String {
        let mut servers = String::new();
        for replica in replicas {
            // Writing to a string does not fail.
            let _ = writeln!(servers, "    server {replica} max_fails=1 fail_timeout=1s;");
        }
        SITE.replace("{listen}", &listen.to_string())
            .replace("{servers}", servers.trim_end())
    }
}

/// What a packaged nginx brings along, with every file in the test's folder.
const MAIN: &str = r"daemon off;
pid nginx.pid;
worker_processes 2;
events {
    worker_connections 4096;
}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
";

const SITE: &str = r#"upstream granary {
    zone granary 64k; # one turn for all worker processes
{servers}
    keepalive 64;
}

server {
    listen {listen};

    # Layers are large: they stream through in both directions and have no limit here.
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_read_timeout 300s;
    proxy_send_timeout 300s;

    # What is safe to repeat goes to the next replica when one is gone; POST and PATCH that were sent are not repeated.
    proxy_next_upstream error timeout;

    # All replicas that were asked. PUT and DELETE are repeated too: a test must know that.
    add_header X-Upstream $upstream_addr always;

    location / {
        proxy_pass http://granary;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
    }
}
"#;
