//! The registry that others are moved from: distribution, over files or a bucket.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::service::{Plan, Service};
use crate::{S3Server, TestbedError, http, ports, tools};

/// A running distribution registry without accounts.
#[derive(Debug)]
pub struct Distribution {
    service: Service,
}

impl Distribution {
    /// Starts a registry that stores in `folder`.
    pub fn in_folder(folder: &Path) -> Result<Self, TestbedError> {
        Self::start(&json!({"filesystem": {"rootdirectory": folder}}))
    }

    /// Starts a registry that stores in a bucket that is there, below `root`, such as `/old`.
    pub fn in_bucket(server: &S3Server, bucket: &str, root: &str) -> Result<Self, TestbedError> {
        Self::start(&json!({"s3": {
            "region": server.region(),
            "regionendpoint": server.endpoint(),
            "bucket": bucket,
            "rootdirectory": root,
            "accesskey": server.access_key(),
            "secretkey": server.secret_key(),
            "forcepathstyle": true,
            "secure": false,
        }}))
    }

    fn start(driver: &Value) -> Result<Self, TestbedError> {
        let program = tools::find("registry")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("distribution", &[port], |_, ports| {
                let port = ports.first().copied().unwrap_or_default();
                http::status(port, "/v2/") == Some(200)
            })?;
            let mut storage = driver.clone();
            if let Some(storage) = storage.as_object_mut() {
                storage.insert("delete".to_owned(), json!({"enabled": true}));
                storage.insert("redirect".to_owned(), json!({"disable": true}));
            }
            // JSON is YAML too.
            let config = json!({
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": true}},
                "storage": storage,
                "http": {"addr": format!("127.0.0.1:{port}"), "secret": "of a test"},
            });
            fs::write(plan.folder.path().join("config.yml"), config.to_string())
                .map_err(TestbedError::io("the settings of distribution"))?;
            plan.command([&program]);
            plan.command(["serve", "config.yml"]);
            plan.environment = vec![("OTEL_TRACES_EXPORTER", "none".into())];
            Service::start(plan)
        })?;
        Ok(Self { service })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.service.port())
    }

    /// Kills the registry; what it stored stays.
    pub fn stop(&mut self) -> Result<(), TestbedError> {
        self.service.stop(Signal::KILL)
    }
}
