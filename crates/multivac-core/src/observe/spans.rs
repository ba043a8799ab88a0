//! Every span, by the semantic conventions of OpenTelemetry: <https://opentelemetry.io/docs/specs/semconv/>. Which there are and
//! how they hang together is in `docs/tracing.md`.
//!
//! None has an attribute with a text that was fed, or with a question.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    FutureExt, Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use super::trace::{is_exported, sampled, start, unrecorded};
use crate::datum::{DatumId, Timestamp};
use crate::queue::{Job, Lease, QueueError};
use crate::store::{Change, Put, StoreError, StoredDatum};

/// What the spans call the queue and the store of this process.
struct Backends {
    queue: &'static str,
    destination: String,
    store: &'static str,
    collection: &'static str,
}

static BACKENDS: OnceLock<Backends> = OnceLock::new();

/// Says that the queue is Redis, with this prefix of its keys, and the store MongoDB.
pub(crate) fn name_servers(namespace: &str) {
    let backends = Backends { queue: "redis", destination: namespace.into(), store: "mongodb", collection: "entropy" };
    // A process has one kind of backends; only tests have more.
    let _ = BACKENDS.set(backends);
}

fn backends() -> &'static Backends {
    BACKENDS.get_or_init(|| Backends {
        queue: "sqlite",
        destination: "job".to_owned(),
        store: "sqlite",
        collection: "datum",
    })
}

/// Begins the span of a request: under the caller's, if it sent one. `attributes` are made where spans are sent.
#[must_use]
pub fn request(
    caller: Option<SpanContext>,
    trace_id: Option<TraceId>,
    name: &str,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> Context {
    let parent = caller.map_or_else(Context::new, |caller| Context::new().with_remote_span_context(caller));
    let span = if is_exported() {
        SpanBuilder::from_name(name.to_owned()).with_attributes(attributes())
    } else {
        SpanBuilder::from_name("")
    };
    start(span.with_kind(SpanKind::Server), &parent, trace_id)
}

/// Begins a span inside the current one; the current context where that is not recorded.
#[must_use]
pub fn inside(name: &str) -> Context {
    child(|| (name.to_owned(), SpanKind::Internal, Vec::new()))
}

/// The context of a request that asks how the process is, every few seconds: it has ids, and no span.
#[must_use]
pub fn probe() -> Context {
    unrecorded()
}

fn child(span: impl FnOnce() -> (String, SpanKind, Vec<KeyValue>)) -> Context {
    let current = Context::current();
    if !current.span().is_recording() {
        return current;
    }
    let (name, kind, attributes) = span();
    start(SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes), &current, None)
}

/// Ends a span that [`inside`] or another of these functions began, unless that gave the current context.
pub fn end(context: &Context) {
    let is_current = Context::map_current(|current| current.span().span_context() == context.span().span_context());
    if !is_current {
        context.span().end();
    }
}

/// The result of what is done in a span, which ends with it.
pub async fn within<T>(context: Context, work: impl Future<Output = T>) -> T {
    let result = work.with_context(context.clone()).await;
    end(&context);
    result
}

/// The span of putting jobs on the queue. The jobs carry its context.
pub(crate) fn send(jobs: usize) -> Context {
    child(|| (format!("send {}", backends().destination), SpanKind::Producer, messaging("send", "send", Some(jobs))))
}

fn messaging(operation: &'static str, kind: &'static str, jobs: Option<usize>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", backends().queue),
        KeyValue::new("messaging.destination.name", backends().destination.as_str()),
        KeyValue::new("messaging.operation.name", operation),
    ];
    if !kind.is_empty() {
        attributes.push(KeyValue::new("messaging.operation.type", kind));
    }
    attributes.extend(jobs.map(|jobs| KeyValue::new("messaging.batch.message_count", jobs as i64)));
    attributes
}

/// A call to a backend.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    to_queue: bool,
    operation: &'static str,
    kind: &'static str,
}

/// The type that the conventions give to whatever ends a message's delivery. In two halves, since the one word is not ours.
const ENDS_DELIVERY: &str = concat!("set", "tle");

impl Call {
    pub(crate) const COMPLETE: Self = Self::queue("complete", ENDS_DELIVERY);
    pub(crate) const FAIL: Self = Self::queue("fail", ENDS_DELIVERY);
    pub(crate) const RELEASE: Self = Self::queue("release", ENDS_DELIVERY);
    pub(crate) const EXTEND: Self = Self::queue("extend", "");
    pub(crate) const JOB_STATE: Self = Self::queue("job_state", "");
    pub(crate) const RETRACT_JOB: Self = Self::queue("retract", "");
    pub(crate) const INSERT: Self = Self::store("insert");
    pub(crate) const FIND: Self = Self::store("find");
    pub(crate) const REPLACE: Self = Self::store("findAndModify");

    const fn queue(operation: &'static str, kind: &'static str) -> Self {
        Self { to_queue: true, operation, kind }
    }

    const fn store(operation: &'static str) -> Self {
        Self { to_queue: false, operation, kind: "" }
    }

    /// Of this many jobs or data.
    fn span(self, many: Option<usize>) -> (String, SpanKind, Vec<KeyValue>) {
        let Self { to_queue, operation, kind } = self;
        if to_queue {
            let name = format!("{operation} {}", backends().destination);
            return (name, SpanKind::Client, messaging(operation, kind, many));
        }
        let &Backends { store, collection, .. } = backends();
        let mut attributes = vec![
            KeyValue::new("db.system.name", store),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", collection),
        ];
        // The conventions count from two on.
        let many = many.filter(|many| *many > 1);
        attributes.extend(many.map(|many| KeyValue::new("db.operation.batch.size", many as i64)));
        (format!("{operation} {collection}"), SpanKind::Client, attributes)
    }

    /// Makes the call, in a span of its own inside the current one where that is recorded.
    pub(crate) async fn of<T, E: ErrorType>(
        self,
        many: Option<usize>,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let context = child(|| self.span(many));
        let result = call.with_context(context.clone()).await;
        if let Err(error) = &result
            && context.span().is_recording()
        {
            failed(&context, error.error_type());
        }
        end(&context);
        result
    }
}

/// Errors as `error.type` has them: a word for each kind.
pub(crate) trait ErrorType {
    /// The word.
    fn error_type(&self) -> &'static str;
}

impl ErrorType for QueueError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::Misconfigured(_) => "misconfigured",
        }
    }
}

impl ErrorType for StoreError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Misconfigured(_) => "misconfigured",
            Self::PositionLost => "position_lost",
        }
    }
}

fn failed(context: &Context, kind: &'static str) {
    context.span().set_attribute(KeyValue::new("error.type", kind));
    context.span().set_status(Status::error(kind));
}

/// Begins the span of a batch, in a trace of its own with links to its sampled jobs, whose wait ends here.
pub(crate) fn batch(leases: &[Lease]) -> Context {
    let now = SystemTime::now();
    let mut links = Vec::new();
    for Lease { job, attempt, .. } in leases {
        if let Some(sent) = sampled(job.trace.as_deref()) {
            let attempt = KeyValue::new("multivac.attempt", i64::from(*attempt));
            of_datum("wait", &sent, job.id, time(job.received_at), now, vec![attempt]);
            links.push(Link::new(sent, vec![KeyValue::new("messaging.message.id", job.id.to_string())], 0));
        }
    }
    let name = if is_exported() { format!("process {}", backends().destination) } else { String::new() };
    let attributes = if links.is_empty() { Vec::new() } else { messaging("process", "process", Some(leases.len())) };
    let span = SpanBuilder::from_name(name).with_kind(SpanKind::Consumer).with_links(links).with_attributes(attributes);
    start(span, &Context::new(), None)
}

/// A span of a datum, which has ended by now. Clocks of two machines may differ, and then it has no length rather than a negative
/// one.
fn of_datum(
    name: &'static str,
    parent: &SpanContext,
    id: DatumId,
    began: SystemTime,
    ended: SystemTime,
    mut attributes: Vec<KeyValue>,
) {
    attributes.push(KeyValue::new("messaging.message.id", id.to_string()));
    let span = SpanBuilder::from_name(name).with_start_time(began).with_attributes(attributes);
    let context = start(span, &Context::new().with_remote_span_context(parent.clone()), None);
    context.span().end_with_timestamp(ended.max(began));
}

fn time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(0))
}

/// A sampled datum's span of being processed, which a link leads from to its batch's.
pub(crate) struct Processing(Option<Context>);

impl Processing {
    pub(crate) fn begin(job: &Job) -> Self {
        Self(sampled(job.trace.as_deref()).map(|sent| {
            let batch = Context::map_current(|batch| Link::with_context(batch.span().span_context().clone()));
            let mut attributes = messaging("process", "process", None);
            attributes.push(KeyValue::new("messaging.message.id", job.id.to_string()));
            let span = SpanBuilder::from_name("process")
                .with_kind(SpanKind::Consumer)
                .with_links(vec![batch])
                .with_attributes(attributes);
            start(span, &Context::new().with_remote_span_context(sent), None)
        }))
    }

    /// Ends it, with why it failed.
    pub(crate) fn end(self, failure: Option<&'static str>) {
        let Some(context) = self.0 else { return };
        if let Some(reason) = failure {
            failed(&context, reason);
        }
        context.span().end();
    }
}

/// The spans of storing the sampled data of a part, which began then and came out so.
pub(crate) fn stored(data: &[StoredDatum], puts: &[Put], began: SystemTime) {
    let now = SystemTime::now();
    for (datum, put) in data.iter().zip(puts) {
        if let Some(sent) = sampled(datum.trace.as_deref()) {
            let outcome = match put {
                Put::Stored => "stored",
                Put::Retracted => "retracted",
                Put::Refused(_) => "refused",
                Put::Unavailable(_) => "unavailable",
            };
            of_datum("store", &sent, datum.id, began, now, vec![KeyValue::new("multivac.outcome", outcome)]);
        }
    }
}

/// Sampled data that are about to become answerable in a replica.
pub(crate) struct Answerable(Vec<(SpanContext, DatumId, Timestamp)>);

impl Answerable {
    /// Those among changes.
    pub(crate) fn among(changes: &[Change]) -> Self {
        if !is_exported() {
            return Self(Vec::new());
        }
        let sampled = changes.iter().filter_map(|change| match change {
            Change::Put(datum) => Some((sampled(datum.trace.as_deref())?, datum.id, datum.processed_at)),
            Change::Removed(_) => None,
        });
        Self(sampled.collect())
    }

    /// Now they are: their spans.
    pub(crate) fn end(self, replica: &str) {
        let now = SystemTime::now();
        for (sent, id, processed_at) in self.0 {
            let replica = KeyValue::new("multivac.replica", replica.to_owned());
            of_datum("answerable", &sent, id, time(processed_at), now, vec![replica]);
        }
    }
}

/// Samples a batch if one of its jobs is, and all else as configured: so that whoever follows a sampled datum finds its batch, and
/// a batch of others costs nothing.
#[derive(Debug, Clone)]
pub(super) struct ByLinks(pub(super) Sampler);

impl ShouldSample for ByLinks {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_root = parent.is_none_or(|parent| !parent.span().span_context().is_valid());
        if !is_root || *kind != SpanKind::Consumer {
            return self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        let decision = match self.0 {
            Sampler::AlwaysOff => SamplingDecision::Drop,
            _ if links.iter().any(|link| link.span_context.is_sampled()) => SamplingDecision::RecordAndSample,
            _ => SamplingDecision::Drop,
        };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}
