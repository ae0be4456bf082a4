//! The granary binary: HTTP edge, configuration, wiring and commands.

pub mod accounts;
pub mod auth;
pub mod body;
pub mod cli;
pub mod config;
mod connection;
pub mod control;
pub mod drain;
pub mod edge;
pub mod groups;
pub mod health;
pub mod installation;
pub mod listener;
pub mod maintenance;
pub mod metrics;
pub mod moving;
pub mod openapi;
mod process;
mod redis;
mod registry_metrics;
pub mod relocation;
pub mod schema;
pub mod serve;
mod stream;
pub mod telemetry;
mod tls;
pub mod v2;
