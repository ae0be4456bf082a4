//! What other machines ask about this one: is it alive, is it ready, what does it count.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, Responder,
    dev::Server,
    web::{Data, ServiceConfig},
};
use futures_util::future::BoxFuture;

use crate::{
    config::Listen,
    drain::Drain,
    endpoint::{get, resource},
    metrics::{CONTENT_TYPE, Metrics},
};

/// The database has this long to answer.
const PATIENCE: Duration = Duration::from_secs(2);

type Probe = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

/// Answers whether this process can serve.
pub struct Health {
    probe: Box<Probe>,
    drain: Drain,
}

impl Health {
    /// `probe` says whether the database answers.
    pub fn new(
        drain: Drain,
        probe: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static,
    ) -> Self {
        Self {
            probe: Box::new(probe),
            drain,
        }
    }

    async fn state(&self) -> (bool, &'static str) {
        if self.drain.is_started() {
            return (false, "draining");
        }
        match tokio::time::timeout(PATIENCE, (self.probe)()).await {
            Ok(true) => (true, "ready"),
            Ok(false) | Err(_) => (false, "the database does not answer"),
        }
    }
}

/// Adds `/health/live` and `/health/ready`; and `/metrics`, unless it has an address of its own.
/// One [`Health`] serves all workers, so share the `Data` between them.
pub fn configure(
    health: Data<Health>,
    metrics: Option<Arc<Metrics>>,
) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        app.app_data(health);
        resource(app, "/health/live", [get(get_live)]);
        resource(app, "/health/ready", [get(get_ready)]);
        if let Some(metrics) = metrics {
            app.app_data(Data::from(metrics));
            resource(app, "/metrics", [get(get_metrics)]);
        }
    }
}

/// Serves `/metrics`, and nothing else, on an address of its own. The server that comes back must
/// run in a task; the addresses are bound already.
pub fn serve_metrics(
    listen: &Listen,
    metrics: Arc<Metrics>,
) -> io::Result<(Vec<SocketAddr>, Server)> {
    let metrics = Data::from(metrics);
    let app = move || {
        App::new()
            .app_data(metrics.clone())
            .configure(|app| resource(app, "/metrics", [get(get_metrics)]))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .bind(&listen.resolve()?[..])?;
    Ok((server.addrs(), server.run()))
}

/// Whether the process runs.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "it runs")))]
pub(crate) async fn get_live() -> impl Responder {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

/// Whether the process can serve.
#[utoipa::path(get, path = "/health/ready", tag = "operations", responses((status = 200, description = "it can"), (status = 503, description = "the database does not answer, or it drains")))]
pub(crate) async fn get_ready(health: Data<Health>) -> impl Responder {
    let (ready, status) = health.state().await;
    let mut response = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response.json(serde_json::json!({"status": status}))
}

/// What the server counts, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "the metrics", content_type = "application/openmetrics-text")))]
pub(crate) async fn get_metrics(metrics: Data<Metrics>) -> impl Responder {
    match metrics.render() {
        Ok(text) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
