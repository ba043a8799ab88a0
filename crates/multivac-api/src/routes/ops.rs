//! What operators and machines ask: liveness, readiness, metrics, and the description of it all.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use multivac_core::observe::metrics;
use serde_json::json;

use super::text;
use crate::state::State;

const OPENAPI: &str = include_str!("../assets/openapi.json");

/// How long the queue may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process runs.
pub(super) async fn healthz() -> HttpResponse {
    text("ok")
}

/// Whether requests should come here, and what is missing, be it or not.
///
/// Not before the index has been filled once, nor while stopping. From then on a queue or a store out of reach is told and
/// keeps no requests away: every other replica would miss it too, questions are answered from the index, and feeding gets
/// its 503 and `Retry-After` from the route itself.
pub(super) async fn readyz(state: web::Data<State>) -> HttpResponse {
    let (mut closed, mut missing) = (Vec::new(), Vec::new());
    if state.stop.is_cancelled() {
        closed.push("stopping");
    }
    match state.warnings.get() {
        None => closed.push("the queue or the store is not there yet"),
        Some(_) => {
            let asked = tokio::time::timeout(PATIENCE, state.registry.queue.ledger()).await;
            if !matches!(asked, Ok(Ok(_))) {
                missing.push("the queue is out of reach");
            }
        }
    }
    let progress = *state.registry.follower.progress().borrow();
    if !progress.caught_up {
        closed.push("the index is not filled yet");
    } else if progress.unwritable {
        missing.push("the index cannot be written; answers rest on what was learned before");
    } else if !progress.following {
        missing.push("the store is out of reach; answers rest on what was learned before");
    }
    let ready = closed.is_empty();
    closed.extend(missing);
    let warnings = state.warnings.get().unwrap_or_default();
    let body = json!({ "ready": ready, "missing": closed, "warnings": *warnings });
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
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
    metrics::FOLLOW_ERRORS.set(state.registry.follower.interruptions() as f64);
    metrics::FOLLOWING.set(f64::from(u8::from(state.registry.follower.progress().borrow().following)));
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(metrics::render())
}

pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}
