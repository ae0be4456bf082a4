//! The granary binary: HTTP edge, configuration, wiring and commands.

pub mod cli;
pub mod config;
pub mod maintenance;
pub mod openapi;
pub mod serve;
