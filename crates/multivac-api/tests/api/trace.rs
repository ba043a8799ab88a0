//! One trace through the embedded system, which headers are a caller's, and collectors that are away or hang.

use std::process::Command;
use std::time::{Duration, Instant};

use multivac_testkit::port::free_port;
use multivac_testkit::process::refusal;
use multivac_testkit::traces::{Collector, Receiver, SERVER, Span, assert_one_trace, is_whole};
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::program::{Program, program};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// Embedded, in a directory of its own, with these variables.
struct Traced {
    program: Program,
    client: Client,
    _directory: tempfile::TempDir,
}

fn command(directory: &std::path::Path, variables: &[(&str, &str)]) -> Command {
    let directory = directory.to_str().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--drain-delay", "0s", "--data-dir", directory];
    let mut command = program(&flags);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "50").envs(variables.iter().copied());
    command
}

impl Traced {
    fn start(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Program::spawn(&mut command(directory.path(), variables));
        Self { program, client: Client::new(), _directory: directory }
    }

    async fn feed(&self, text: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = self.client.post(format!("{}/multivac/data", self.program.base)).form(&[("data", text)]);
        request.headers(header_map(headers)).send().await.unwrap()
    }

    /// The trace id that an error's problem document names.
    async fn named(&self, headers: &[(&str, &str)]) -> String {
        let request = self.client.get(format!("{}/multivac?question=", self.program.base)).headers(header_map(headers));
        let problem: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(problem["status"], 400);
        problem["trace_id"].as_str().unwrap().to_owned()
    }

    /// SIGTERM; what it has logged, and how long it took to end.
    async fn stop(self) -> (String, Duration) {
        drop(self.client);
        let began = Instant::now();
        self.program.process.signal("TERM");
        let exit = self.program.ended().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        (exit.stderr, began.elapsed())
    }
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

#[tokio::test]
async fn one_request_gives_one_connected_trace_in_the_embedded_system() {
    let (receiver, directory) = (Receiver::start(false), tempfile::tempdir().unwrap());
    let headers = directory.path().join("headers");
    std::fs::write(&headers, "authorization=Bearer%20secret\n").unwrap();
    let traced = Traced::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS_FILE", headers.to_str().unwrap()),
        ("OTEL_SERVICE_NAME", "my multivac"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=north%20west"),
        ("OTEL_TRACES_SAMPLER", ""),
    ]);
    assert_eq!(traced.feed("Starlight is gathered.", &[("traceparent", &traceparent())]).await.status(), 200);
    let spans = receiver.until("its trace is whole", |spans| is_whole(spans, TRACE, 1)).await;
    assert_one_trace(&spans, (TRACE, CALLER), 1, "job");
    let resource = &spans[0].resource;
    assert_eq!((&*resource["service.name"], &*resource["zone"]), ("my multivac", "north west"));
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(receiver.heads().iter().all(|head| head.contains("\r\nauthorization: bearer secret\r\n")));
    let (logs, _) = traced.stop().await;
    assert!(!logs.contains("secret"), "{logs}");
}

#[tokio::test]
async fn the_collector_gets_the_trace_by_both_protocols_over_tls() {
    let Some(collector) = Collector::start().await else { return };
    let ca = collector.path("collector-ca.pem");
    for (number, protocol) in ["http/protobuf", "grpc"].into_iter().enumerate() {
        let trace = format!("4bf92f3577b34da6a3ce929d0e0e473{number}");
        let traced = Traced::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoints[number]),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=one"),
        ]);
        let headers = [("traceparent", &*format!("00-{trace}-{CALLER}-01")), ("tracestate", "vendor=value")];
        assert_eq!(traced.feed("Starlight is gathered.", &headers).await.status(), 200);
        let spans = collector.until("its trace is whole", |spans| is_whole(spans, &trace, 1)).await;
        assert_one_trace(&spans, (&trace, CALLER), 1, "job");
        assert!(spans.iter().filter(|span| span.trace == trace).all(|span| span.state == "vendor=value"));
        traced.stop().await;
    }
    // Whoever it does not trust gets nothing, and says so once.
    let traced = Traced::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoints[0])]);
    traced.feed("Dust is gathered.", &[("traceparent", &traceparent())]).await;
    traced.program.process.wait_for_log("spans cannot be sent");
    traced.stop().await;
    assert!(collector.spans().iter().all(|span| span.trace != TRACE));
}

#[tokio::test]
async fn only_a_traceparent_as_the_standard_has_it_is_a_callers() {
    let receiver = Receiver::start(false);
    let traced = Traced::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint)]);
    let good = traceparent();
    assert_eq!(traced.named(&[("traceparent", &good)]).await, TRACE);
    assert_eq!(traced.named(&[("traceparent", &format!(" {good} "))]).await, TRACE);
    assert_eq!(traced.named(&[("traceparent", &good.replacen("00", "cc", 1))]).await, TRACE);
    assert_eq!(traced.named(&[("X-Request-Id", TRACE)]).await, TRACE);
    let long = format!("{good}-{}", "x".repeat(2_000));
    let bad = [
        good.replacen("00", "ff", 1),
        good.to_uppercase(),
        good.replace(TRACE, &"0".repeat(32)),
        good.replace(CALLER, &"0".repeat(16)),
        good.replacen("00-", "00-0", 1),
        long,
        "0-1-2-1".to_owned(),
    ];
    for header in &bad {
        let named = traced.named(&[("traceparent", header)]).await;
        assert!(named != TRACE && named.len() == 32, "{header}: {named}");
    }
    let two =
        traced.named(&[("traceparent", &good), ("traceparent", &good.replace(TRACE, &TRACE.replace('4', "5")))]).await;
    assert_ne!(two, TRACE);
    let spans =
        receiver.until("all are there", |spans| spans.iter().filter(|span| span.kind == SERVER).count() == 12).await;
    let parents: Vec<&Span> = spans.iter().filter(|span| span.kind == SERVER && !span.parent.is_empty()).collect();
    assert_eq!(parents.len(), 3, "{parents:#?}");
    assert!(parents.iter().all(|span| span.parent == CALLER && span.name == "GET /multivac"), "{parents:#?}");
    traced.stop().await;
}

#[tokio::test]
async fn what_is_not_sampled_makes_no_spans() {
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    for (variables, header) in [
        (vec![], unsampled.clone()),
        (vec![("OTEL_TRACES_SAMPLER", "always_off")], traceparent()),
        (vec![("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")], traceparent()),
        (vec![("OTEL_SDK_DISABLED", "true")], traceparent()),
        (vec![("OTEL_TRACES_EXPORTER", "none")], traceparent()),
    ] {
        let receiver = Receiver::start(false);
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint.as_str());
        let traced = Traced::start(&[&[endpoint], variables.as_slice()].concat());
        let reply: Value =
            traced.feed("Starlight is gathered.", &[("traceparent", &header)]).await.json().await.unwrap();
        let path = format!("/multivac/data/{}", reply["id"].as_str().unwrap());
        traced.program.until(&Client::new(), &path, |_| true).await;
        assert_eq!(traced.named(&[("traceparent", &header)]).await, TRACE);
        traced.stop().await;
        let spans: Vec<Span> = receiver.spans().into_iter().filter(|span| span.trace == TRACE).collect();
        assert!(spans.is_empty(), "{variables:?}: {spans:#?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_or_hangs_costs_no_request_anything_and_ends_with_the_program() {
    const DATA: usize = 3_000;
    let (receiver, away) = (Receiver::start(true), format!("http://127.0.0.1:{}", free_port()));
    for (protocol, endpoint) in
        [("http/protobuf", &receiver.endpoint), ("grpc", &receiver.endpoint), ("http/protobuf", &away), ("grpc", &away)]
    {
        let traced = Traced::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
        ]);
        let bulk = |n: usize| {
            let lines = (0..n).map(|n| format!("{{\"data\": \"Star {n} went out.\"}}\n")).collect::<String>();
            let request = traced.client.post(format!("{}/multivac/data/bulk", traced.program.base));
            request
                .header("Content-Type", "application/x-ndjson")
                .header("traceparent", traceparent())
                .body(lines)
                .send()
        };
        // Fills the queue of spans, and what else grows once.
        assert_eq!(bulk(DATA).await.unwrap().status(), 200);
        traced.program.until(&Client::new(), "/multivac/stats", |stats| stats["learned"] == DATA).await;
        for _ in 0..5 {
            let began = Instant::now();
            assert_eq!(traced.feed("Starlight is gathered.", &[("traceparent", &traceparent())]).await.status(), 200);
            assert!(began.elapsed() < Duration::from_secs(2), "{protocol} {endpoint}: {:?}", began.elapsed());
            assert_eq!(bulk(DATA).await.unwrap().status(), 200);
        }
        traced.program.until(&Client::new(), "/multivac/stats", |stats| stats["learned"] == 6 * DATA + 5).await;
        let memory = traced.program.process.memory_kib();
        multivac_testkit::environment::report(&format!("{memory} KiB of memory with {protocol} to {endpoint}"));
        let (logs, took) = traced.stop().await;
        assert!(took < Duration::from_secs(8), "{protocol} {endpoint}: it took {took:?}\n{logs}");
        let complaints = logs.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
        assert!(complaints <= 4, "{logs}");
        // A queue without a bound would drop none. How many are dropped depends on how many a broken connection takes along.
        if *endpoint == receiver.endpoint {
            let dropped =
                logs.split_once("dropped_span_count=").map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()));
            let dropped: usize = dropped.and_then(|mut digits| digits.next()?.parse().ok()).unwrap_or(0);
            assert!(dropped > 0, "{protocol}: {dropped} dropped\n{logs}");
        }
    }
    assert!(receiver.requests() > 0);
}

#[tokio::test]
async fn a_variable_that_cannot_be_used_ends_the_start_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
    ] {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        let refusal = refusal(&mut command(directory.path(), &[endpoint, (name, value)]));
        assert!(
            refusal.contains(name) && refusal.contains("expected") | refusal.contains("cannot be read"),
            "{refusal}"
        );
    }
}
