//! S3 servers: two, so that nothing is built on the habits of one.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::service::{Plan, Service};
use crate::shared::Shared;
use crate::{TestbedError, http, ports, tools};

const ACCESS_KEY: &str = "granary-test";
const SECRET_KEY: &str = "granary-test-secret";
const REGION: &str = "us-east-1";

/// A running S3 server without buckets; the test makes its own. Buckets are addressed by path.
#[derive(Debug)]
pub struct S3Server {
    service: Service,
}

impl S3Server {
    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// The identity that may do everything; no other is let in.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Its secret, which the server really checks.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The region to sign with.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// Kills the server; what it acknowledged stays.
    pub fn stop(&mut self) -> Result<(), TestbedError> {
        self.service.stop(Signal::KILL)
    }

    /// Starts a stopped server on the same port with the same data.
    pub fn start_again(&mut self) -> Result<(), TestbedError> {
        self.service.start_again()
    }
}

/// MinIO, in one process with one folder.
#[derive(Debug)]
pub struct Minio;

impl Minio {
    /// Starts a server.
    pub fn start() -> Result<S3Server, TestbedError> {
        let program = tools::find("minio")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("minio", &[port], |_, ports| {
                status(ports, 0, "/minio/health/ready") == Some(200)
            })?;
            plan.command([&program]);
            plan.command(["server", "data", "--quiet", "--certs-dir", "certs"]);
            plan.command(["--address", &format!("127.0.0.1:{port}")]);
            plan.environment = vec![
                ("HOME", plan.folder.path().into()),
                ("MINIO_ROOT_USER", ACCESS_KEY.into()),
                ("MINIO_ROOT_PASSWORD", SECRET_KEY.into()),
                ("MINIO_SITE_REGION", REGION.into()),
                ("MINIO_BROWSER", "off".into()),
                ("MINIO_UPDATE", "off".into()),
            ];
            Service::start(plan)
        })?;
        Ok(S3Server { service })
    }

    /// The one server of this process.
    pub fn shared() -> Result<&'static S3Server, TestbedError> {
        static SHARED: Shared<S3Server> = Shared::new();
        SHARED.get(Self::start)
    }
}

/// SeaweedFS: master, volume server, filer and S3 gateway in one process.
#[derive(Debug)]
pub struct SeaweedFs;

impl SeaweedFs {
    /// Starts a server.
    pub fn start() -> Result<S3Server, TestbedError> {
        let program = tools::find("weed")?;
        let service = ports::with_free(|ports: [u16; 8]| {
            let mut plan = Plan::new("seaweedfs", &ports, seaweedfs_is_ready)?;
            let folder = plan.folder.path();
            let identities = format!(
                r#"{{"identities": [{{"name": "test", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
            );
            fs::create_dir(folder.join("data"))
                .and_then(|()| fs::write(folder.join("s3.json"), identities))
                .map_err(TestbedError::io("the files of seaweedfs"))?;
            plan.environment = vec![("HOME", folder.into())];
            plan.command([&program]);
            plan.command(["-logtostderr=true"]);
            plan.command(["server", "-dir", "data", "-ip", "127.0.0.1"]);
            plan.command(["-ip.bind", "127.0.0.1", "-s3", "-s3.config", "s3.json"]);
            // Every bucket has volumes of its own, and a shared server sees many buckets.
            plan.command(["-volume.max", "100000", "-master.volumeSizeLimitMB", "1024"]);
            // Without these, files and fixed ports are shared with every other SeaweedFS of the machine.
            plan.command(["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]);
            plan.command(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
            // A bucket that is missing must be missed.
            plan.command(["-s3.autoCreateBucket=false"]);
            for (part, port) in ["s3", "master", "volume", "filer"].iter().zip(&ports[4..]) {
                plan.litter
                    .push(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
            }
            let options = [
                "s3.port",
                "master.port",
                "volume.port",
                "filer.port",
                "s3.port.grpc",
                "master.port.grpc",
                "volume.port.grpc",
                "filer.port.grpc",
            ];
            for (option, port) in options.iter().zip(ports) {
                plan.command([format!("-{option}={port}")]);
            }
            Service::start(plan)
        })?;
        Ok(S3Server { service })
    }

    /// The one server of this process.
    pub fn shared() -> Result<&'static S3Server, TestbedError> {
        static SHARED: Shared<S3Server> = Shared::new();
        SHARED.get(Self::start)
    }
}

/// The gateway answers long before a byte can be stored: the master must have a volume to give. The gateway's refusal of the
/// unsigned request shows that it has read its identities.
fn seaweedfs_is_ready(_: &Path, ports: &[u16]) -> bool {
    status(ports, 1, "/dir/assign") == Some(200) && status(ports, 0, "/") == Some(403)
}

fn status(ports: &[u16], index: usize, path: &str) -> Option<u16> {
    http::status(*ports.get(index)?, path)
}
