//! `GET /metrics`: Prometheus text format.

use actix_web::{HttpResponse, web};
use multivac_core::observe::metrics;

use crate::openapi::{Described, text_reply};
use crate::state::{State, probe};

pub(super) async fn metrics(state: web::Data<State>) -> HttpResponse {
    if let Some(ledger) = probe(state.registry.ledger()).await {
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
        // An old count would look like a current one.
        metrics::LEDGER.reset();
    }
    state.warnings.measure();
    metrics::PASSAGES.set(state.registry.index.snapshot().passages as f64);
    metrics::FOLLOW_ERRORS.set(state.registry.follower.interruptions() as f64);
    metrics::FENCED.set(f64::from(u8::from(state.registry.follower.fence().is_fenced())));
    metrics::FOLLOWING.set(f64::from(u8::from(state.registry.follower.progress().borrow().following)));
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(metrics::render())
}

pub(super) fn describe() -> Described {
    Described::read("metrics", "Prometheus text format").closed_at_edge().reply(200, text_reply("Metrics", ""))
}
