//! How one log line is written: as text, as JSON, or as Google Cloud's logging reads it
//! (<https://cloud.google.com/logging/docs/structured-logging>). docs/logging.md has the fields.
//!
//! Every line of a request or a batch has the ids of its trace and span, out of OpenTelemetry's current context.

use std::fmt::{self, Debug};
use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::limits::{Limits, Pass};
use super::logs::PANICKED;
use crate::datum::Timestamp;

/// How lines are written, and how many.
pub(super) struct Lines {
    form: Form,
    limits: Arc<Limits>,
}

/// The message of a line that stands for others.
pub(super) const LEFT_OUT: &str = "a line was left out, since there were too many like it";

/// A form of lines.
pub(super) enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// One that Google Cloud's logging reads.
    Gcp(Gcp),
}

/// What Google Cloud's lines have beside the event.
pub(super) struct Gcp {
    /// `multivac-api` or `multivac-worker`.
    pub(super) service: &'static str,
    /// The project that traces belong to; without it a line has the bare id.
    pub(super) project: Option<String>,
}

impl Lines {
    pub(super) fn new(form: Form, limits: Arc<Limits>) -> Self {
        Self { form, limits }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Pass { ended, suppressed } = self.limits.pass(event.metadata(), place_of_panic(event));
        for (line, count) in ended {
            self.write_count(&mut writer, &line, count)?;
        }
        match suppressed {
            None => Ok(()),
            Some(suppressed) => match &self.form {
                Form::Text => text(context, writer, event, suppressed),
                Form::Json => writeln!(writer, "{}", Value::Object(json_line(event, suppressed))),
                Form::Gcp(gcp) => writeln!(writer, "{}", Value::Object(gcp.line(event, suppressed))),
            },
        }
    }
}

impl Lines {
    /// Tells of lines that were left out and that no later one of their kind tells of.
    fn write_count(&self, writer: &mut Writer<'_>, line: &str, suppressed: u64) -> fmt::Result {
        let now = Timestamp::now().to_string();
        let line = match self.form {
            Form::Text => return writeln!(writer, "{now}  INFO {LEFT_OUT} line={line:?} suppressed={suppressed}"),
            Form::Json => json!({
                "timestamp": now, "level": "INFO", "message": LEFT_OUT, "line": line, "suppressed": suppressed,
                "target": module_path!(),
            }),
            Form::Gcp(_) => json!({
                "time": now, "severity": "INFO", "message": LEFT_OUT, "line": line, "suppressed": suppressed,
                "target": module_path!(),
            }),
        };
        writeln!(writer, "{line}")
    }
}

fn text<S, N>(context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>, suppressed: u64) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let level = *event.metadata().level();
    let (colour, plain) = if writer.has_ansi_escapes() { (colour(level), "\u{1b}[0m") } else { ("", "") };
    write!(writer, "{} {colour}{level:>5}{plain} ", Timestamp::now())?;
    context.format_fields(writer.by_ref(), event)?;
    if suppressed > 0 {
        write!(writer, " suppressed={suppressed}")?;
    }
    if let Some(span) = current_span() {
        write!(writer, " trace_id={} span_id={}", span.trace_id(), span.span_id())?;
    }
    writeln!(writer)
}

/// Red, yellow, green, blue, violet.
fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

fn json_line(event: &Event<'_>, suppressed: u64) -> Map<String, Value> {
    let mut line = fields(event, suppressed);
    line.insert("timestamp".into(), Timestamp::now().to_string().into());
    line.insert("level".into(), event.metadata().level().as_str().into());
    if let Some(span) = current_span() {
        line.insert("trace_id".into(), span.trace_id().to_string().into());
        line.insert("span_id".into(), span.span_id().to_string().into());
    }
    line
}

impl Gcp {
    fn line(&self, event: &Event<'_>, suppressed: u64) -> Map<String, Value> {
        let (metadata, mut line) = (event.metadata(), fields(event, suppressed));
        let is_panic = line.get("message").is_some_and(|message| message == PANICKED);
        let severity = match *metadata.level() {
            Level::ERROR if is_panic => "CRITICAL",
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        line.insert("severity".into(), severity.into());
        line.insert("time".into(), Timestamp::now().to_string().into());
        let (file, number) = (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        let function = metadata.module_path().unwrap_or_default();
        // A panic's line is logged by the hook, and came from elsewhere.
        let place = place_of_panic(event);
        let (file, number) = place.as_deref().and_then(file_and_line).unwrap_or((file, number));
        let source = json!({ "file": file, "line": number.to_string(), "function": function });
        line.insert("logging.googleapis.com/sourceLocation".into(), source);
        let (program, version) = (self.service.trim_start_matches("multivac-"), super::metrics::version());
        line.insert("logging.googleapis.com/labels".into(), json!({ "program": program, "version": version }));
        if let Some(span) = current_span() {
            let id = span.trace_id();
            let trace = self
                .project
                .as_ref()
                .map_or_else(|| id.to_string(), |project| format!("projects/{project}/traces/{id}"));
            line.insert("logging.googleapis.com/trace".into(), trace.into());
            line.insert("logging.googleapis.com/spanId".into(), span.span_id().to_string().into());
            line.insert("logging.googleapis.com/trace_sampled".into(), span.is_sampled().into());
        }
        if let Some(request) = http_request(&line) {
            line.insert("httpRequest".into(), request);
        }
        if *metadata.level() == Level::ERROR {
            self.report(&mut line, json!({ "filePath": file, "lineNumber": number, "functionName": function }));
        }
        line
    }

    /// Has Error Reporting group a line by its place: <https://cloud.google.com/error-reporting/docs/formatting-error-messages>.
    fn report(&self, line: &mut Map<String, Value>, place: Value) {
        const REPORTED: &str = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent";
        // What the message means is in the error, and Error Reporting shows the message alone.
        if let (Some(Value::String(message)), Some(Value::String(error))) = (line.get("message"), line.get("error")) {
            let message = format!("{message}: {error}");
            line.insert("message".into(), message.into());
        }
        line.insert("@type".into(), REPORTED.into());
        line.insert("serviceContext".into(), json!({ "service": self.service, "version": super::metrics::version() }));
        line.insert("context".into(), json!({ "reportLocation": place }));
    }
}

/// Where a panic was, if the event is one.
fn place_of_panic(event: &Event<'_>) -> Option<String> {
    if *event.metadata().level() != Level::ERROR || event.metadata().target() != super::logs::TARGET {
        return None;
    }
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    fields.0.get("place").and_then(Value::as_str).map(str::to_owned)
}

/// `src/a.rs:1:2` taken apart.
fn file_and_line(place: &str) -> Option<(&str, u32)> {
    let (place, _column) = place.rsplit_once(':')?;
    let (file, line) = place.rsplit_once(':')?;
    Some((file, line.parse().ok()?))
}

/// A request's line as Cloud Logging shows requests.
fn http_request(line: &Map<String, Value>) -> Option<Value> {
    let (method, path) = (line.get("method")?.as_str()?, line.get("path")?.as_str()?);
    let (status, duration_us) = (line.get("status")?.as_u64()?, line.get("duration_us")?.as_u64()?);
    let latency = format!("{}.{:06}s", duration_us / 1_000_000, duration_us % 1_000_000);
    Some(json!({ "requestMethod": method, "requestUrl": path, "status": status, "latency": latency }))
}

/// The event's own fields, and its target.
fn fields(event: &Event<'_>, suppressed: u64) -> Map<String, Value> {
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    let Fields(mut line) = fields;
    // An event of a library that logs by other means has these among its fields.
    let target = line.remove("log.target").unwrap_or_else(|| event.metadata().target().into());
    line.retain(|name, _| !name.starts_with("log."));
    line.insert("target".into(), target);
    if suppressed > 0 {
        line.insert("suppressed".into(), suppressed.into());
    }
    line
}

/// The span that the current task works for.
fn current_span() -> Option<SpanContext> {
    Context::map_current(|context| {
        let span = context.span();
        Some(span.span_context().clone()).filter(SpanContext::is_valid)
    })
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
