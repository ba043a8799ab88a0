//! The worker's HTTP server for operators: health, readiness, metrics.

use std::fmt::Display;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{ACCEPT, HOST};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, guard, web};
use multivac_core::adapters::{Backends, Warnings};
use multivac_core::observe::metrics;
use multivac_core::queue::Queue;
use multivac_core::runtime::hosts::{AllowedHosts, KnownHosts};
use multivac_core::store::Store;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long the queue and the store may take to reply to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the worker can work, and what is missing if not.
#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    missing: Vec<&'static str>,
    /// Settings of the queue's server under which accepted data could be lost.
    warnings: &'a [String],
}

struct State {
    queue: Arc<dyn Queue>,
    store: Arc<dyn Store>,
    warnings: Warnings,
    stop: CancellationToken,
}

impl State {
    /// What /readyz says, by what the watch of the backends found last, since a scrape asks no server.
    fn is_ready(&self) -> bool {
        let reaches = |backend| metrics::REACHABLE.of(backend).get() == Some(1.0);
        let works = !self.stop.is_cancelled() && self.warnings.get().is_some() && metrics::STORE_WAITING.get() == 0;
        works && reaches("queue") && reaches("store")
    }
}

/// Listens, and serves when awaited.
pub(crate) fn serve(
    address: &str,
    allowed: Option<&AllowedHosts>,
    backends: &Backends,
    stop: CancellationToken,
) -> io::Result<Server> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    info!(address = %bound, "health, readiness and metrics");
    let hosts = KnownHosts::new(address, bound, allowed);
    let (queue, store, warnings) = (backends.queue.clone(), backends.store.clone(), backends.warnings.clone());
    let state = web::Data::new(State { queue, store, warnings, stop });
    let app = move || {
        let hosts = hosts.clone();
        let is_foreign = guard::fn_guard(move |request| {
            let mut named = request.head().headers().get_all(HOST);
            !named.all(|host| host.to_str().is_ok_and(|host| hosts.knows(host)))
        });
        App::new()
            .app_data(state.clone())
            .service(web::scope("").guard(is_foreign).default_service(web::to(foreign)))
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
    };
    Ok(HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run())
}

async fn foreign() -> HttpResponse {
    HttpResponse::Forbidden().body("this worker is not known by the name in Host; --allowed-hosts allows more")
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
    } else {
        // Signing off a replica that never was writes nothing, and yet needs all that a write needs: the primary, that it
        // is not locked, and a majority.
        let store = state.store.announce("a probe", None);
        let (queue, store) = tokio::join!(replies("the queue", state.queue.ledger()), replies("the store", store),);
        if !queue {
            metrics::QUEUE_ERRORS.inc();
            missing.push("the queue is out of reach");
        }
        if !store {
            metrics::STORE_ERRORS.inc();
            missing.push("the store is out of reach");
        } else if metrics::STORE_WAITING.get() > 0 {
            missing.push("the store cannot take data that wait for it; the log says why");
        }
    }
    let warnings = warnings.unwrap_or_default();
    let reply = Readiness { ready: missing.is_empty(), missing, warnings: &warnings };
    if reply.ready { HttpResponse::Ok().json(reply) } else { HttpResponse::ServiceUnavailable().json(reply) }
}

/// Whether one of them replies. Nobody else sees a call of a probe fail, so it is logged here, and counted.
async fn replies<T, E: Display>(of: &'static str, call: impl Future<Output = Result<T, E>>) -> bool {
    match tokio::time::timeout(PROBE_TIMEOUT, call).await {
        Ok(Ok(_)) => return true,
        Ok(Err(error)) => warn!(of, %error, "a probe got no reply"),
        Err(_) => warn!(of, timeout_ms = PROBE_TIMEOUT.as_millis() as u64, "a probe got no reply in time"),
    }
    false
}

async fn metrics(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    metrics::READY.set(i64::from(state.is_ready()));
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let (content_type, text) = metrics::render(accept);
    HttpResponse::Ok().content_type(content_type).body(text)
}
