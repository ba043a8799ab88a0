//! `GET /metrics`: Prometheus' text format, or OpenMetrics.

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::observe::metrics;

use super::readyz::judge;
use crate::openapi::{Described, text_reply};
use crate::state::State;

/// Asks no server: what servers know is read in the background ([`multivac_core::watch`]).
pub(super) async fn metrics(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let registry = &state.registry;
    let progress = *registry.follower.progress().borrow();
    metrics::READY.set(flag(judge(&state).unready.is_empty()));
    metrics::PASSAGES.set(registry.index.snapshot().passages as i64);
    metrics::FENCED.set(flag(registry.follower.fence().is_fenced()));
    metrics::FOLLOWING.set(flag(progress.following));
    metrics::INDEX_UNWRITABLE.set(flag(progress.unwritable));
    metrics::HTTP_CONNECTIONS.set(state.connections.all() as i64);
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let (content_type, text) = metrics::render(accept);
    HttpResponse::Ok().content_type(content_type).body(text)
}

fn flag(is: bool) -> i64 {
    i64::from(is)
}

pub(super) fn describe() -> Described {
    Described::read("metrics", "Prometheus' text format; OpenMetrics where `Accept` asks for it")
        .closed_at_edge()
        .reply(200, text_reply("Metrics", ""))
}
