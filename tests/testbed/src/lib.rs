//! Real back ends for tests, as child processes on free loopback ports with temporary folders.
//!
//! Each server is a value: it answers when `start` returns and is gone, with its folder, when the value is dropped. A server
//! also dies with its process, even one that is killed, because a small shell holds a pipe to it (`watchdog.sh`). `shared`
//! gives one server to a whole test process. All calls block; that is fine in an async test.
//!
//! Programs are looked for in PATH and then where `conformance/tools.sh` installs them.

mod distribution;
mod error;
mod etcd;
mod haproxy;
mod http;
mod nginx;
mod patroni;
mod ports;
mod postgres;
mod redis;
mod s3;
mod service;
mod shared;
mod tools;
mod toxiproxy;

pub use distribution::Distribution;
pub use error::TestbedError;
pub use nginx::Nginx;
pub use patroni::Patroni;
pub use ports::free as free_port;
pub use postgres::{Postgres, StopMode};
pub use redis::Redis;
pub use s3::{Minio, S3Server, SeaweedFs};
pub use toxiproxy::{Proxy, Toxiproxy};
