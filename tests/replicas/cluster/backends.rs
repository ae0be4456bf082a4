//! PostgreSQL, a bucket, Redis, and what lies between them and the replicas.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use granary_testbed::{Minio, Nginx, Proxy, Redis, S3Server, SeaweedFs, Toxiproxy};

use super::{Setup, database::Database};
use crate::s3_faults::S3Faults;

const BUCKET: &str = "granary";

/// The ways from one replica to its back ends.
pub(crate) struct Links {
    pub(crate) postgres: Proxy,
    pub(crate) s3: Proxy,
    pub(crate) redis: Proxy,
}

pub(crate) struct Backends {
    database: Mutex<Database>,
    s3: Mutex<S3Server>,
    redis: Mutex<Redis>,
    pub(crate) toxiproxy: Toxiproxy,
    pub(crate) links: Vec<Links>,
    pub(crate) faults: S3Faults,
    pub(crate) nginx: Option<Nginx>,
    bucket: Client,
}

impl Backends {
    /// Everything for so many replicas, but the balancer.
    pub(crate) async fn start(replicas: usize, seed: u64, setup: Setup) -> Self {
        let database = Database::start(setup.fails_over);
        let s3 = if setup.seaweedfs {
            SeaweedFs::start()
        } else {
            Minio::start()
        };
        let s3 = s3.unwrap();
        let redis = Redis::start().unwrap();
        let toxiproxy = Toxiproxy::start().unwrap();
        let bucket = client(&s3);
        bucket.create_bucket().bucket(BUCKET).send().await.unwrap();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let faults = S3Faults::start(local(s3.port()), seed).await.unwrap();
        let links = (0..replicas)
            .map(|number| {
                let link = |name, upstream| {
                    let name = format!("{name}-{number}");
                    toxiproxy.proxy(&name, upstream).unwrap()
                };
                Links {
                    postgres: link("postgres", database.address()),
                    s3: link("s3", faults.address),
                    redis: link("redis", local(redis.port())),
                }
            })
            .collect();
        Self {
            database: Mutex::new(database),
            s3: Mutex::new(s3),
            redis: Mutex::new(redis),
            toxiproxy,
            links,
            faults,
            nginx: None,
            bucket,
        }
    }

    /// What a replica must be told to use its links.
    pub(crate) fn settings(&self, number: usize) -> Vec<(&'static str, String)> {
        let links = &self.links[number];
        let s3 = self.s3();
        let setting = |name, value: &str| (name, value.to_owned());
        vec![
            (
                "GRANARY_DATABASE__URL",
                self.database().url(links.postgres.listen),
            ),
            (
                "GRANARY_REDIS__URL",
                format!("redis://{}", links.redis.listen),
            ),
            setting("GRANARY_STORAGE__KIND", "s3"),
            (
                "GRANARY_STORAGE__S3__ENDPOINT",
                format!("http://{}", links.s3.listen),
            ),
            setting("GRANARY_STORAGE__S3__BUCKET", BUCKET),
            setting("GRANARY_STORAGE__S3__REGION", s3.region()),
            setting("GRANARY_STORAGE__S3__ACCESS_KEY_ID", s3.access_key()),
            setting("GRANARY_STORAGE__S3__SECRET_ACCESS_KEY", s3.secret_key()),
            setting("GRANARY_STORAGE__S3__PATH_STYLE", "true"),
            setting("GRANARY_STORAGE__S3__REDIRECT", "false"),
            setting("GRANARY_DATABASE__MAX_CONNECTIONS", "12"),
        ]
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn s3(&self) -> MutexGuard<'_, S3Server> {
        self.s3.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn redis(&self) -> MutexGuard<'_, Redis> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of all objects.
    pub(crate) async fn objects(&self) -> BTreeSet<String> {
        let mut pages = self
            .bucket
            .list_objects_v2()
            .bucket(BUCKET)
            .into_paginator()
            .send();
        let mut keys = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
        }
        keys
    }

    /// Multipart uploads that neither ended nor were aborted. MinIO lists those of one key only.
    pub(crate) async fn unfinished(&self) -> Vec<String> {
        let mut unfinished = Vec::new();
        for path in self.faults.begun() {
            let Some(key) = path.strip_prefix(&format!("/{BUCKET}/")) else {
                continue;
            };
            let list = self
                .bucket
                .list_multipart_uploads()
                .bucket(BUCKET)
                .prefix(key);
            let list = list.send().await.unwrap();
            unfinished.extend(list.uploads().iter().map(|_| key.to_owned()));
        }
        unfinished
    }
}

fn client(server: &S3Server) -> Client {
    let (id, secret) = (server.access_key(), server.secret_key());
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(server.region()))
        .endpoint_url(server.endpoint())
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}
