//! What every request gets: its trace, its metrics, its line in the log.

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::{Error, web};
use multivac_core::observe::TraceContext;
use multivac_core::observe::metrics;
use tracing::{Instrument, debug, field, info_span};

use crate::state::State;
use crate::trace::TRACE;

/// Gives a request its trace (the caller's, if it sent one), and records how long it took and how it ended.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let given = request.headers().get("traceparent").and_then(|value| value.to_str().ok()?.parse().ok());
    let trace = given.map_or_else(TraceContext::generate, TraceContext::child);
    let method = request.method().as_str().to_owned();
    let span = info_span!("request", http.method = method, http.route = field::Empty, http.status = field::Empty);
    let connections = request.app_data::<web::Data<State>>().map(|state| Arc::clone(&state.connections));
    let mut response = TRACE.scope(trace, next.call(request)).instrument(span.clone()).await;
    if let Ok(response) = &mut response
        && connections.is_some_and(|connections| connections.closing())
    {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let (status, route) = match &response {
        Ok(response) => (response.status(), response.request().match_pattern()),
        Err(error) => (error.as_response_error().status_code(), None),
    };
    // All unknown paths count as one: a scan of paths would fill the metrics.
    let route = route.unwrap_or_else(|| "none".to_owned());
    let known = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"].into_iter().find(|known| *known == method);
    let elapsed = started.elapsed();
    let (known, code) = (known.unwrap_or("other"), status.as_str().to_owned());
    metrics::REQUEST_SECONDS.observe(route.clone(), known, code, elapsed.as_secs_f64());
    span.record("http.route", &route);
    span.record("http.status", status.as_u16());
    debug!(
        route,
        method,
        status = status.as_u16(),
        duration_us = elapsed.as_micros() as u64,
        trace_id = trace.trace_id(),
        "request"
    );
    response
}
