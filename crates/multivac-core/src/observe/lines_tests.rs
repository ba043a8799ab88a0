use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics here").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `log` makes, in a form.
fn lines(form: Form, log: impl FnOnce()) -> Vec<String> {
    limited_lines(form, &Arc::default(), log)
}

fn limited_lines(form: Form, limits: &Arc<Limits>, log: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let writer = written.clone();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(layer.event_format(Lines::new(form, Arc::clone(limits))));
    tracing::subscriber::with_default(subscriber, log);
    let text = String::from_utf8(written.0.lock().expect("no test panics here").clone()).expect("lines are text");
    text.lines().map(str::to_owned).collect()
}

fn json(line: &str) -> Map<String, Value> {
    serde_json::from_str(line).expect("a line is one JSON object")
}

/// Within a trace.
fn traced(log: impl FnOnce()) {
    let (trace, span) = (TraceId::from(0xabc), SpanId::from(0xdef));
    let span = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE);
    let _current = Context::new().with_remote_span_context(span).attach();
    log();
}

fn gcp(project: Option<&str>) -> Form {
    Form::Gcp(Gcp { service: "multivac-api", project: project.map(str::to_owned) })
}

const TRACE: &str = "00000000000000000000000000000abc";
const SPAN: &str = "0000000000000def";

#[test]
fn each_form_has_the_ids_of_the_current_trace_and_none_outside_of_one() {
    let text = lines(Form::Text, || traced(|| tracing::info!(data = 3, "loaded")));
    assert!(text[0].ends_with(&format!(" INFO loaded data=3 trace_id={TRACE} span_id={SPAN}")), "{text:?}");
    let line = json(&lines(Form::Json, || traced(|| tracing::warn!(data = 3, "loaded")))[0]);
    assert_eq!((&line["level"], &line["message"], &line["data"]), (&"WARN".into(), &"loaded".into(), &3.into()));
    assert_eq!((&line["trace_id"], &line["span_id"]), (&TRACE.into(), &SPAN.into()));
    let line = json(&lines(gcp(Some("a-project")), || traced(|| tracing::warn!("loaded")))[0]);
    assert_eq!(line["logging.googleapis.com/trace"], format!("projects/a-project/traces/{TRACE}"));
    assert_eq!(line["logging.googleapis.com/spanId"], SPAN);
    assert_eq!(line["logging.googleapis.com/trace_sampled"], true);
    assert_eq!(json(&lines(gcp(None), || traced(|| tracing::info!("x")))[0])["logging.googleapis.com/trace"], TRACE);
    for form in [Form::Text, Form::Json, gcp(Some("a-project"))] {
        let lines = lines(form, || tracing::info!("loaded"));
        assert!(!lines[0].contains("trace") && !lines[0].contains("span"), "{lines:?}");
    }
}

#[test]
fn google_cloud_gets_what_it_reads() {
    let line = json(&lines(gcp(None), || tracing::info!(duration_ms = 5, "loaded"))[0]);
    assert_eq!(
        (&line["severity"], &line["message"], &line["duration_ms"]),
        (&"INFO".into(), &"loaded".into(), &5.into())
    );
    time::OffsetDateTime::parse(line["time"].as_str().expect("text"), &time::format_description::well_known::Rfc3339)
        .expect("a time");
    let source = &line["logging.googleapis.com/sourceLocation"];
    assert!(source["file"].as_str().is_some_and(|file| file.ends_with("lines_tests.rs")), "{source}");
    assert!(source["line"].as_str().is_some_and(|line| line.parse::<u32>().is_ok()), "{source}");
    assert_eq!(line["logging.googleapis.com/labels"]["program"], "api");
    assert!(!line.contains_key("@type"));

    let line = json(&lines(gcp(None), || tracing::error!(error = "disk full", "the index cannot be written"))[0]);
    assert_eq!(
        (&line["severity"], &line["message"]),
        (&"ERROR".into(), &"the index cannot be written: disk full".into())
    );
    assert_eq!(line["serviceContext"]["service"], "multivac-api");
    assert!(line["@type"].as_str().is_some_and(|kind| kind.ends_with("ReportedErrorEvent")));
    assert!(line["context"]["reportLocation"]["lineNumber"].is_u64());
    assert_eq!(json(&lines(gcp(None), || tracing::error!("{PANICKED}"))[0])["severity"], "CRITICAL");

    let request = || tracing::debug!(method = "GET", path = "/zzz", status = 200, duration_us = 1_500, "request");
    let line = json(&lines(gcp(None), request)[0]);
    let expected = json!({ "requestMethod": "GET", "requestUrl": "/zzz", "status": 200, "latency": "0.001500s" });
    assert_eq!(line["httpRequest"], expected);
}

#[test]
fn whatever_is_logged_is_one_line() {
    let log = || tracing::warn!(error = "a\nb\r\n\"c\"\u{1b}[31m\u{7}", path = ?"\n", "two\nlines");
    for form in [Form::Json, gcp(None)] {
        let lines = lines(form, log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(json(&lines[0])["error"], "a\nb\r\n\"c\"\u{1b}[31m\u{7}");
    }
}

#[test]
fn of_ten_thousand_lines_some_are_written_and_the_others_are_counted() {
    let limits = Arc::<Limits>::default();
    let log = || (0..10_000).for_each(|n| tracing::warn!(n, "again and again"));
    let written = limited_lines(Form::Json, &limits, log).len() as u64;
    assert_eq!(written, 20);
    let left_out = limits.drain();
    assert_eq!((left_out.len(), left_out[0].1), (1, 10_000 - written));
    assert!(left_out[0].0.contains("lines_tests.rs:"), "{left_out:?}");
}

#[test]
fn a_panic_is_reported_where_it_was() {
    let log = || super::super::logs::log_panic(Some("src/a.rs:7:3".to_owned()), Some("a thread"));
    let line = json(&lines(gcp(None), log)[0]);
    let source = &line["logging.googleapis.com/sourceLocation"];
    assert_eq!((&source["file"], &source["line"]), (&"src/a.rs".into(), &"7".into()));
    assert_eq!(line["context"]["reportLocation"]["filePath"], "src/a.rs");
    assert_eq!((&line["message"], &line["thread"]), (&PANICKED.into(), &"a thread".into()));
}
