//! What every request gets: its trace, its metrics, its line in the log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, web};
use multivac_core::observe::metrics;
use opentelemetry::trace::FutureExt;
use tracing::{Level, debug};

use crate::routes::RoutePath;
use crate::state::State;
use crate::trace::RequestTrace;

/// Gives a request its trace (the caller's, if it sent one), and records how long it took and how it ended.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let trace = RequestTrace::start(request.head());
    let methods = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"];
    let method = methods.into_iter().find(|known| *known == request.method().as_str()).unwrap_or("other");
    let path = tracing::enabled!(Level::DEBUG).then(|| request.path().to_owned());
    let connections = request.app_data::<web::Data<State>>().map(|state| Arc::clone(&state.connections));
    let mut response = next.call(request).with_context(trace.context()).await;
    if let Ok(response) = &mut response
        && connections.is_some_and(|connections| connections.closing())
    {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let (status, route) = match &response {
        Ok(response) => (response.status(), route_of(response.request())),
        Err(error) => (error.as_response_error().status_code(), None),
    };
    trace.end(route.as_deref(), status);
    // What is counted and logged of it belongs to its trace.
    let in_trace = trace.context().attach();
    // All unknown paths count as one: a scan of paths would fill the metrics.
    let route = route.unwrap_or("none".into());
    let elapsed = started.elapsed();
    let code = if status == StatusCode::OK { "200".into() } else { status.as_str().to_owned().into() };
    metrics::REQUEST_SECONDS.observe(route.clone(), method, code, elapsed.as_secs_f64());
    // Not a line for each at a higher level: the edge has one, and what failed is logged where it failed.
    debug!(
        route = &*route,
        method,
        path,
        status = status.as_u16(),
        duration_us = elapsed.as_micros() as u64,
        "request"
    );
    drop(in_trace);
    response
}

/// The path in the table of routes that a request belongs to. One that was refused before it came there is looked up.
fn route_of(request: &HttpRequest) -> Option<Cow<'static, str>> {
    match request.app_data::<RoutePath>() {
        Some(RoutePath(path)) => Some(Cow::Borrowed(path)),
        None => request.match_pattern().map(Cow::Owned),
    }
}
