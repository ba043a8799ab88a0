//! The trace that the current request belongs to.

use multivac_core::observe::TraceContext;

tokio::task_local! {
    /// The trace that the request under way belongs to.
    pub(crate) static TRACE: TraceContext;
}

/// The current request's trace as a `traceparent`, for what outlives the request: a job on the queue.
pub(crate) fn traceparent() -> Option<String> {
    TRACE.try_with(ToString::to_string).ok()
}

/// The current request's trace id; `None` outside a request.
pub(crate) fn trace_id() -> Option<String> {
    TRACE.try_with(TraceContext::trace_id).ok()
}
