//! Receivers of spans, ours and the real OpenTelemetry Collector, and what the trace of a datum must be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

use crate::environment;
use crate::port::free_port;
use crate::process::Service;
use crate::wait::until;

/// The kinds of spans, by their numbers.
pub const INTERNAL: i64 = 1;
/// Of a request that is served.
pub const SERVER: i64 = 2;
/// Of a call.
pub const CLIENT: i64 = 3;
/// Of a message that is sent.
pub const PRODUCER: i64 = 4;
/// Of messages that are processed.
pub const CONSUMER: i64 = 5;

/// A span as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Its parent's id; empty without one.
    pub parent: String,
    /// `tracestate`.
    pub state: String,
    /// One of the kinds.
    pub kind: i64,
    /// When it began and ended, in ns since 1970.
    pub times: (u64, u64),
    /// The spans that it is linked with: trace and id.
    pub links: Vec<(String, String)>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Those of the process that made it.
    pub resource: BTreeMap<String, String>,
    /// Whether it says that it failed.
    pub failed: bool,
}

impl Span {
    /// An attribute; empty where there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    all.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}

fn decoded(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let of_process = resource.resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                kind: i64::from(span.kind),
                times: (span.start_time_unix_nano, span.end_time_unix_nano),
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                attributes: attributes(&span.attributes),
                resource: of_process.clone(),
                failed: span.status.is_some_and(|status| status.code == 2),
                name: span.name,
            });
        }
    }
    spans
}

/// A receiver of OTLP over HTTP, on a port of the system's choice.
pub struct Receiver {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub endpoint: String,
    shared: Arc<Shared>,
    port: u16,
}

#[derive(Default)]
struct Shared {
    spans: Mutex<Vec<Span>>,
    heads: Mutex<Vec<String>>,
    requests: AtomicUsize,
    hangs: AtomicBool,
    ends: AtomicBool,
}

impl Receiver {
    /// Starts it; `hangs`: it takes connections and requests, and replies to none.
    pub fn start(hangs: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { hangs: AtomicBool::new(hangs), ..Shared::default() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.ends.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { endpoint: format!("http://127.0.0.1:{port}"), shared, port }
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// The heads of all requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Waits until the spans that have come fulfil a condition.
    pub async fn until(&self, what: &str, condition: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        until(what, async || condition(&self.spans())).await;
        self.spans()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        stream.set_read_timeout(Some(crate::TEST_TIMEOUT)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((head, body)) = request(&mut reader) {
            self.requests.fetch_add(1, Ordering::SeqCst);
            if self.hangs.load(Ordering::SeqCst) {
                continue;
            }
            self.heads.lock().unwrap().push(head);
            self.spans.lock().unwrap().extend(decoded(&body));
            let reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
            if (&stream).write_all(reply).is_err() {
                break;
            }
        }
    }
}

/// The next request's head and body; `None` when the connection ends.
fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// The OpenTelemetry Collector, which writes what it receives to a file.
pub struct Collector {
    /// Of its process.
    pub service: Service,
    /// For http/protobuf, and for grpc.
    pub endpoints: [String; 2],
    directory: TempDir,
}

impl Collector {
    /// Starts it where `MULTIVAC_TEST_OTELCOL` says which program it is; with TLS, by a certificate of [`crate::tls`] in the
    /// directory [`Self::path`] under the name `collector`. Without it the test is skipped.
    pub async fn start() -> Option<Self> {
        let program = environment::optional("MULTIVAC_TEST_OTELCOL")?;
        let directory = tempfile::tempdir().unwrap();
        crate::tls::make_certificate(directory.path(), "collector");
        let [http, grpc] = [free_port(), free_port()];
        let path = |name: &str| directory.path().join(name).display().to_string();
        let tls = format!("tls: {{ cert_file: {}, key_file: {} }}", path("collector.crt"), path("collector.key"));
        let config = format!(
            "receivers:\n  otlp:\n    protocols:\n      \
                   grpc: {{ endpoint: \"127.0.0.1:{grpc}\", {tls} }}\n      \
                   http: {{ endpoint: \"127.0.0.1:{http}\", {tls} }}\n\
             exporters:\n  file: {{ path: {} }}\n\
             service:\n  telemetry: {{ metrics: {{ level: none }} }}\n  pipelines:\n    \
                   traces: {{ receivers: [otlp], exporters: [file] }}\n",
            path("spans.jsonl")
        );
        std::fs::write(path("config.yaml"), config).unwrap();
        let line = [program, "--config".to_owned(), path("config.yaml")];
        let service = Service::start("otelcol", line, directory.path().join("otelcol.log"));
        let endpoints = [http, grpc].map(|port| format!("https://127.0.0.1:{port}"));
        let collector = Self { service, endpoints, directory };
        for port in [http, grpc] {
            until("the collector listens", async || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        }
        Some(collector)
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let file = std::fs::read_to_string(self.path("spans.jsonl")).unwrap_or_default();
        // The last line may not be whole yet.
        file.lines().filter_map(|line| serde_json::from_str(line).ok()).flat_map(|line: Value| of_json(&line)).collect()
    }

    /// Waits until the spans that have come fulfil a condition.
    pub async fn until(&self, what: &str, condition: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        until(what, async || condition(&self.spans())).await;
        self.spans()
    }
}

fn of_json(line: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = |all: &Value| -> BTreeMap<String, String> {
        let value = |value: &Value| {
            let value = value.as_object().and_then(|one| one.values().next().cloned()).unwrap_or_default();
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        list(all).iter().map(|one| (text(&one["key"]), value(&one["value"]))).collect()
    };
    let mut spans = Vec::new();
    for resource in list(&line["resourceSpans"]) {
        for span in list(&resource["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
            let links = list(&span["links"]);
            spans.push(Span {
                name: text(&span["name"]),
                trace: text(&span["traceId"]),
                id: text(&span["spanId"]),
                parent: text(&span["parentSpanId"]),
                state: text(&span["traceState"]),
                kind: span["kind"].as_i64().unwrap_or_default(),
                times: ["startTimeUnixNano", "endTimeUnixNano"].map(|at| text(&span[at]).parse().unwrap_or(0)).into(),
                links: links.iter().map(|link| (text(&link["traceId"]), text(&link["spanId"]))).collect(),
                attributes: attributes(&span["attributes"]),
                resource: attributes(&resource["resource"]["attributes"]),
                failed: span["status"]["code"] == 2,
            });
        }
    }
    spans
}

/// Whether a datum's trace is there: it was sent, and has become answerable in so many replicas.
pub fn is_whole(spans: &[Span], trace: &str, replicas: usize) -> bool {
    let count = |name: &str| spans.iter().filter(|span| span.trace == trace && span.name == name).count();
    let is_request = |span: &Span| span.trace == trace && span.kind == SERVER;
    let batches = spans
        .iter()
        .any(|span| span.kind == CONSUMER && span.links.iter().any(|link| link.0 == trace) && span.trace != trace);
    count("answerable") >= replicas && count("store") > 0 && spans.iter().any(is_request) && batches
}

/// Fails unless the trace of one datum that was fed is one connected tree with these edges and no others, under the caller's span:
/// request → send → wait, process, store, and answerable in each replica; and its batch, in a trace of its own, is linked with it.
pub fn assert_one_trace(spans: &[Span], (trace, caller): (&str, &str), replicas: usize, destination: &str) {
    let within: Vec<&Span> = spans.iter().filter(|span| span.trace == trace).collect();
    let named = |name: &str| -> Vec<&&Span> { within.iter().filter(|span| span.name == name).collect() };
    let one = |name: &str| match named(name)[..] {
        [span] => *span,
        ref found => panic!("{name}: {found:#?} among {within:#?}"),
    };
    let request = one("POST /multivac/data");
    assert_eq!((request.kind, &*request.parent), (SERVER, caller), "{request:#?}");
    assert_eq!((request.attribute("http.request.method"), request.attribute("http.route")), ("POST", "/multivac/data"));
    assert_eq!((request.attribute("http.response.status_code"), request.attribute("url.scheme")), ("200", "http"));
    assert_eq!((request.attribute("server.address"), request.attribute("url.path")), ("127.0.0.1", "/multivac/data"));
    let send = one(&format!("send {destination}"));
    assert_eq!((send.kind, &send.parent), (PRODUCER, &request.id), "{send:#?}");
    assert_eq!(
        (send.attribute("messaging.operation.type"), send.attribute("messaging.destination.name")),
        ("send", destination)
    );
    for (name, kind) in [("wait", INTERNAL), ("process", CONSUMER), ("store", INTERNAL)] {
        let span = one(name);
        assert_eq!((span.kind, &span.parent), (kind, &send.id), "{span:#?}");
        assert!(span.times.0 <= span.times.1 && !span.failed, "{span:#?}");
    }
    let answerable = named("answerable");
    assert!(answerable.iter().all(|span| span.parent == send.id && span.kind == INTERNAL), "{answerable:#?}");
    let names: BTreeSet<&str> = answerable.iter().map(|span| span.attribute("multivac.replica")).collect();
    assert_eq!((answerable.len(), names.len()), (replicas, replicas), "{answerable:#?}");
    assert_eq!(within.len(), 5 + replicas, "{within:#?}");
    assert!(within.iter().all(|span| span.times.0 > 1_600_000_000_000_000_000), "{within:#?}");

    let ours = (trace.to_owned(), send.id.clone());
    let batches: Vec<&Span> = spans.iter().filter(|span| span.trace != trace && span.links.contains(&ours)).collect();
    let [batch] = batches[..] else { panic!("its batches: {batches:#?}") };
    assert_eq!(
        (batch.kind, &*batch.parent, &*batch.name),
        (CONSUMER, "", &*format!("process {destination}")),
        "{batch:#?}"
    );
    assert_eq!(batch.attribute("messaging.operation.type"), "process");
    assert!(!batch.attribute("messaging.batch.message_count").is_empty(), "{batch:#?}");
    assert_eq!(one("process").links, [(batch.trace.clone(), batch.id.clone())]);
    let calls: Vec<&Span> = spans.iter().filter(|span| span.trace == batch.trace && span.id != batch.id).collect();
    assert!(calls.iter().all(|call| call.parent == batch.id && call.kind == CLIENT), "{calls:#?}");
    let named: BTreeSet<&str> = calls.iter().filter_map(|call| call.name.split(' ').next()).collect();
    assert!(named.is_superset(&BTreeSet::from(["insert", "complete"])), "{calls:#?}");
    for span in spans {
        let private = span.attributes.values().any(|value| value.contains("Starlight") || value.contains("question="));
        assert!(!private, "{span:#?}");
    }
}
