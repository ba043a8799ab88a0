//! One trace through the full system: two api replicas, a worker, Redis and MongoDB.

use multivac_testkit::system::{Plan, System};
use multivac_testkit::traces::{CLIENT, INTERNAL, Receiver, SERVER, Span, assert_one_trace, is_whole};
use serde_json::Value;

use crate::test_worker::PROGRAM;

const CALLER: &str = "00f067aa0ba902b7";

fn trace(number: u32) -> String {
    format!("4bf92f3577b34da6a3ce929d{number:08x}")
}

async fn feed(system: &System, text: &str, traceparent: &str) -> String {
    let request = system.client.post(format!("{}/multivac/data", system.bases[0])).form(&[("data", text)]);
    let reply = request.header("traceparent", traceparent).header("tracestate", "vendor=value").send().await.unwrap();
    assert_eq!(reply.status(), 200, "{}", system.log_tails());
    reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn one_request_gives_one_connected_trace_through_the_full_system() {
    let receiver = Receiver::start(false);
    let environment = vec![
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", receiver.endpoint),
        "OTEL_BSP_SCHEDULE_DELAY=50".to_owned(),
        "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test".to_owned(),
    ];
    let Some(mut system) = System::start(Plan { workers: 1, environment, ..Plan::new(PROGRAM) }).await else { return };
    let namespace = system.name().to_owned();

    let (sampled, unsampled) = (trace(1), trace(2));
    let id = feed(&system, "Starlight is gathered at night.", &format!("00-{sampled}-{CALLER}-01")).await;
    feed(&system, "Dust is gathered by day.", &format!("00-{unsampled}-{CALLER}-00")).await;
    let spans = receiver.until("its trace is whole", |spans| is_whole(spans, &sampled, 2)).await;
    assert_one_trace(&spans, (&sampled, CALLER), 2, &namespace);
    let programs: std::collections::BTreeSet<&str> =
        spans.iter().map(|span| span.resource["service.name"].as_str()).collect();
    assert_eq!(programs, ["multivac-api", "multivac-worker"].into());
    assert!(spans.iter().all(|span| span.resource["deployment.environment.name"] == "test"));
    let of_datum = |span: &&Span| span.trace == sampled;
    assert!(spans.iter().filter(of_datum).all(|span| span.state == "vendor=value"), "{spans:#?}");

    let retracted = trace(3);
    let request = system.client.delete(format!("{}/multivac/data/{id}", system.bases[1]));
    let reply = request.header("traceparent", format!("00-{retracted}-{CALLER}-01")).send().await.unwrap();
    assert_eq!(reply.status(), 204);
    let asked = trace(4);
    let request = system.client.get(format!("{}/multivac?question=What+is+gathered+by+day", system.bases[1]));
    request.header("traceparent", format!("00-{asked}-{CALLER}-01")).send().await.unwrap();
    let has = |spans: &[Span], trace: &str| spans.iter().any(|span| span.trace == trace && span.kind == SERVER);
    receiver.until("both requests are there", |spans| has(spans, &retracted) && has(spans, &asked)).await;

    // What they have not sent yet they send when they end.
    for service in system.apis.iter_mut().chain(&mut system.workers) {
        assert_eq!(service.stop(), Some(0));
    }
    let spans = receiver.spans();
    let children = |trace: &str| {
        let root = spans.iter().find(|span| span.trace == trace && span.kind == SERVER).unwrap();
        assert_eq!(root.parent, CALLER);
        let children = spans.iter().filter(|span| span.trace == trace && span.id != root.id);
        let mut children: Vec<(String, i64)> = children
            .inspect(|span| assert_eq!(span.parent, root.id, "{span:#?}"))
            .map(|span| (span.name.replace(&namespace, "NAMESPACE"), span.kind))
            .collect();
        children.sort();
        children
    };
    let named = |name: &str, kind| (name.to_owned(), kind);
    assert_eq!(
        children(&retracted),
        [
            named("find entropy", CLIENT),
            named("findAndModify entropy", CLIENT),
            named("job_state NAMESPACE", CLIENT),
            named("retract NAMESPACE", CLIENT),
            named("wait for replicas", INTERNAL),
        ]
    );
    assert_eq!(children(&asked), [named("answer", INTERNAL), named("wait for a thread", INTERNAL)]);
    // Neither of the unsampled one nor of probes.
    assert!(spans.iter().all(|span| span.trace != unsampled && span.links.iter().all(|link| link.0 != unsampled)));
    assert!(!spans.iter().any(|span| span.attribute("http.route") == "/readyz"));
    system.clean_up().await;
}
