//! The worker's small port: health, readiness, metrics.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use multivac_core::adapters::Warnings;
use multivac_core::observe::metrics;
use multivac_core::queue::Queue;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How long the queue may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

struct State {
    queue: Arc<dyn Queue>,
    warnings: Warnings,
    stop: CancellationToken,
}

/// Listens, and serves when awaited.
pub(crate) fn serve(
    address: &str,
    queue: Arc<dyn Queue>,
    warnings: Warnings,
    stop: CancellationToken,
) -> io::Result<Server> {
    let listener = TcpListener::bind(address)?;
    info!(address = %listener.local_addr()?, "health, readiness and metrics");
    let state = web::Data::new(State { queue, warnings, stop });
    let app = move || {
        App::new()
            .app_data(state.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
    };
    Ok(HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run())
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok")
}

async fn readyz(state: web::Data<State>) -> HttpResponse {
    let mut missing = Vec::new();
    if state.stop.is_cancelled() {
        missing.push("stopping");
    }
    let warnings = state.warnings.get();
    if warnings.is_none() {
        missing.push("the queue or the store is not there yet");
    } else if !matches!(tokio::time::timeout(PATIENCE, state.queue.ledger()).await, Ok(Ok(_))) {
        missing.push("the queue is out of reach");
    }
    let body = json!({ "ready": missing.is_empty(), "missing": missing, "warnings": *warnings.unwrap_or_default() });
    if missing.is_empty() { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

async fn metrics(state: web::Data<State>) -> HttpResponse {
    state.warnings.measure();
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(metrics::render())
}
