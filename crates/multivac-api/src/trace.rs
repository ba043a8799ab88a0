//! The span of a request.
//!
//! It has neither the query, which is a question, nor a path that no route has, which may be anything.

use actix_http::RequestHead;
use actix_http::header::{HeaderMap, HeaderName};
use actix_web::http::StatusCode;
use multivac_core::observe::{spans, trace};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

// A name that is given as text is looked up letter by letter, for each request.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace that a request belongs to, with its span there.
pub(crate) struct RequestTrace {
    context: Context,
    method: &'static str,
    path: Option<String>,
}

impl RequestTrace {
    /// Under the caller's span, if it sent one; else in a trace of its own, with the id that the edge gave it.
    pub(crate) fn start(head: &RequestHead) -> Self {
        let method = known(head.method.as_str());
        let request_id = head.headers.get(X_REQUEST_ID).and_then(|id| trace::id_of_request(id.to_str().ok()?));
        let caller = caller(&head.headers);
        let is_probe = caller.is_none() && matches!(head.uri.path(), "/healthz" | "/readyz" | "/metrics");
        let context = if is_probe {
            spans::probe()
        } else {
            spans::request(caller, request_id, method, || attributes(head, method))
        };
        let path = context.span().is_recording().then(|| head.uri.path().to_owned());
        Self { context, method, path }
    }

    /// In which it is to be handled.
    pub(crate) fn context(&self) -> Context {
        self.context.clone()
    }

    /// Ends the span.
    pub(crate) fn end(&self, route: Option<&str>, status: StatusCode) {
        let span = self.context.span();
        let Some(path) = &self.path else { return };
        if let Some(route) = route {
            span.update_name(format!("{} {route}", if self.method == OTHER { "HTTP" } else { self.method }));
            span.set_attributes([
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("url.path", path.clone()),
            ]);
        }
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// What the conventions call a method that is not known.
const OTHER: &str = "_OTHER";

fn known(method: &str) -> &'static str {
    let methods = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    methods.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

/// The span of whoever sent it. With two `traceparent`s nobody can say whose it is.
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all(TRACEPARENT);
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    let states: Vec<&str> = headers.get_all(TRACESTATE).filter_map(|state| state.to_str().ok()).collect();
    trace::remote(parent.to_str().ok()?.trim(), &states.join(","))
}

fn attributes(head: &RequestHead, method: &'static str) -> Vec<KeyValue> {
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if header("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    let mut attributes = vec![KeyValue::new("http.request.method", method), KeyValue::new("url.scheme", scheme)];
    if let Some(host) = header("host") {
        let port = host.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
        attributes.push(KeyValue::new("server.address", port.map_or(host, |(name, _)| name).to_owned()));
        attributes.extend(port.map(|(_, port)| KeyValue::new("server.port", i64::from(port))));
    }
    attributes
}
