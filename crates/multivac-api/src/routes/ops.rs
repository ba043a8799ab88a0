//! What operators and machines ask: liveness, readiness, metrics, and the description of it all.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use multivac_core::runtime::metrics;
use serde_json::json;

use super::text;
use crate::app::State;

const OPENAPI: &str = include_str!("../assets/openapi.json");

/// How long the queue may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process runs.
pub(super) async fn healthz() -> HttpResponse {
    text("ok")
}

/// It can take data and answer from all that was learned; what is missing otherwise.
pub(super) async fn readyz(state: web::Data<State>) -> HttpResponse {
    let mut missing = Vec::new();
    if state.stop.is_cancelled() {
        missing.push("stopping");
    }
    match state.warnings.get() {
        None => missing.push("the queue or the store is not there yet"),
        Some(_) => {
            let asked = tokio::time::timeout(PATIENCE, state.registry.queue.ledger()).await;
            if !matches!(asked, Ok(Ok(_))) {
                missing.push("the queue is out of reach");
            }
        }
    }
    let progress = *state.registry.follower.progress().borrow();
    if !progress.caught_up {
        missing.push("the index is not filled yet");
    } else if !progress.following {
        missing.push("the store is out of reach");
    }
    let warnings = state.warnings.get().unwrap_or_default();
    let body = json!({ "ready": missing.is_empty(), "missing": missing, "warnings": *warnings });
    if missing.is_empty() { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

pub(super) async fn metrics(state: web::Data<State>) -> HttpResponse {
    if let Ok(Ok(ledger)) = tokio::time::timeout(PATIENCE, state.registry.ledger()).await {
        let counts = [
            ("accepted", ledger.accepted),
            ("queued", ledger.queued),
            ("processing", ledger.processing),
            ("learned", ledger.learned),
            ("retracted", ledger.retracted),
            ("dead", ledger.dead),
        ];
        for (name, count) in counts {
            metrics::LEDGER.with_label_values(&[name]).set(count as f64);
        }
    } else {
        // An old figure would look like a present one.
        metrics::LEDGER.reset();
    }
    state.warnings.measure();
    metrics::PASSAGES.set(state.registry.index.snapshot().passages as f64);
    metrics::FOLLOW_ERRORS.set(state.registry.follower.errors() as f64);
    metrics::FOLLOWING.set(f64::from(u8::from(state.registry.follower.progress().borrow().following)));
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(metrics::render())
}

pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}
