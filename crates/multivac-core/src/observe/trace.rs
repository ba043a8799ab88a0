//! One trace from the caller to the answer: W3C trace contexts (<https://www.w3.org/TR/trace-context/>) by OpenTelemetry's own
//! propagator, and the tracer that spans are made with.
//!
//! The current trace is OpenTelemetry's own context, so whatever logs on behalf of a request or a batch finds its ids in
//! [`Context::current`]. They are there whether spans are sent anywhere or not. Where they are not, a caller's context is
//! passed on as it came, which is what a process without an SDK is to do, and a request without one gets ids of its own.

use std::cell::Cell;
use std::sync::OnceLock;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer};

/// The longest `tracestate` that travels with a job. The standard asks for as much, and a datum should not carry more.
const MAX_TRACESTATE_BYTES: usize = 512;

/// There once spans are sent somewhere.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Has spans made and sent from now on. Once a process.
pub(super) fn install(tracer: SdkTracer) {
    // Whoever starts telemetry twice is told so by the log's start.
    let _ = TRACER.set(tracer);
}

/// Whether spans are sent anywhere.
pub(super) fn is_exported() -> bool {
    TRACER.get().is_some()
}

thread_local! {
    /// The id of the trace that is about to begin, where that is given.
    static GIVEN: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Random ids, but for a trace whose id is given.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        GIVEN.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// Begins a span under that of `parent`, or a trace where that has none, and returns the context in which it is current.
/// `trace_id` is the id of a trace that begins; a random one where it is left out.
pub(super) fn start(span: SpanBuilder, parent: &Context, trace_id: Option<TraceId>) -> Context {
    GIVEN.set(trace_id);
    let context = match TRACER.get() {
        Some(tracer) => parent.with_span(tracer.build_with_context(span, parent)),
        None if parent.span().span_context().is_valid() => parent.clone(),
        None => unrecorded(),
    };
    GIVEN.set(None);
    context
}

/// The context of a trace of its own of which nothing is recorded: it has ids, for the log.
pub(super) fn unrecorded() -> Context {
    let ids = Ids::default();
    let (trace_id, span_id) = (ids.new_trace_id(), ids.new_span_id());
    let span = SpanContext::new(trace_id, span_id, TraceFlags::default(), false, TraceState::NONE);
    Context::new().with_remote_span_context(span)
}

/// The trace id in a job's or a datum's field, if that trace is sampled and sent somewhere.
pub(crate) fn sampled_id(field: Option<&str>) -> Option<String> {
    sampled(field).map(|span| span.trace_id().to_string())
}

/// What a caller sent as `traceparent` and `tracestate`; `None` where that is no trace context.
#[must_use]
pub fn remote(traceparent: &str, tracestate: &str) -> Option<SpanContext> {
    if !has_shape(traceparent.as_bytes()) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(
        &Context::new(),
        &Carrier { traceparent: traceparent.into(), tracestate: tracestate.into() },
    );
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// Whether each part is where the standard has it. The propagator alone takes parts of other lengths, and signs.
fn has_shape(text: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|part| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)))
    };
    let dash = |at: usize| text.get(at) == Some(&b'-');
    // Later versions may have more parts.
    let ends = text.len() == 55 || (dash(55) && !text.starts_with(b"00"));
    hex(0..2) && dash(2) && hex(3..35) && dash(35) && hex(36..52) && dash(52) && hex(53..55) && ends
}

/// The trace id that a request id stands for: the edge gives its own where the caller sent no trace.
#[must_use]
pub fn id_of_request(request_id: &str) -> Option<TraceId> {
    let is_hex = request_id.len() == 32 && request_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let id = is_hex.then(|| TraceId::from_hex(request_id).ok()).flatten();
    id.filter(|id| *id != TraceId::INVALID)
}

/// The current trace's id: 32 hexadecimal digits; `None` outside a request or a batch.
#[must_use]
pub fn current_id() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id().to_string())
    })
}

/// The context as a job and a stored datum carry it: the `traceparent`, and after a space the `tracestate` of a sampled trace that
/// has one.
pub(crate) fn to_field(context: &Context) -> Option<String> {
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return None;
    }
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    let mut field = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    let tracestate = if span.is_sampled() { span.trace_state().header() } else { String::new() };
    if !tracestate.is_empty() && tracestate.len() <= MAX_TRACESTATE_BYTES {
        field.push(' ');
        field.push_str(&tracestate);
    }
    Some(field)
}

/// The context in such a field if spans are to be made of it: they are sent somewhere, and the trace is sampled. For all others
/// it costs a look at one byte.
#[must_use]
pub fn sampled(field: Option<&str>) -> Option<SpanContext> {
    let field = field.filter(|field| is_sampled(field) && is_exported())?;
    let (traceparent, tracestate) = field.split_once(' ').unwrap_or((field, ""));
    remote(traceparent, tracestate)
}

/// Whether the last digit of the flags is odd.
fn is_sampled(traceparent: &str) -> bool {
    matches!(traceparent.as_bytes().get(54), Some(b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'))
}

/// The two headers.
struct Carrier {
    traceparent: String,
    tracestate: String,
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.traceparent),
            "tracestate" => Some(&self.tracestate).filter(|state| !state.is_empty()).map(String::as_str),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
