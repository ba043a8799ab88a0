//! What every request gets: its trace, its metrics, its line in the log.

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::{Error, web};
use multivac_core::observe::metrics;
use opentelemetry::trace::FutureExt;
use tracing::debug;

use crate::state::State;
use crate::trace::RequestTrace;

/// Gives a request its trace (the caller's, if it sent one), and records how long it took and how it ended.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let trace = RequestTrace::start(request.head());
    let method = request.method().as_str().to_owned();
    let path = request.path().to_owned();
    let connections = request.app_data::<web::Data<State>>().map(|state| Arc::clone(&state.connections));
    let mut response = next.call(request).with_context(trace.context()).await;
    if let Ok(response) = &mut response
        && connections.is_some_and(|connections| connections.closing())
    {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let (status, route) = match &response {
        Ok(response) => (response.status(), response.request().match_pattern()),
        Err(error) => (error.as_response_error().status_code(), None),
    };
    trace.end(route.as_deref(), status);
    // What is counted and logged of it belongs to its trace.
    let in_trace = trace.context().attach();
    // All unknown paths count as one: a scan of paths would fill the metrics.
    let route = route.unwrap_or_else(|| "none".to_owned());
    let known = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"].into_iter().find(|known| *known == method);
    let elapsed = started.elapsed();
    let (known, code) = (known.unwrap_or("other"), status.as_str().to_owned());
    metrics::REQUEST_SECONDS.observe(route.clone(), known, code, elapsed.as_secs_f64());
    // Not a line for each at a higher level: the edge has one, and what failed is logged where it failed.
    debug!(route, method, path, status = status.as_u16(), duration_us = elapsed.as_micros() as u64, "request");
    drop(in_trace);
    response
}
