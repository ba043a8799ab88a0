//! A failed call is one line in the log, under the trace that the client is told, and one count.

use std::time::Instant;

use reqwest::Client;
use serde_json::Value;

use crate::program::Program;

/// Enough to tell one count for each from two, whatever else is counted meanwhile.
const REQUESTS: u64 = 40;

/// The value of a counter in Prometheus text.
fn counter(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or("0");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_request_that_lacks_the_queue_is_logged_under_its_trace_and_counted_once() {
    let program = Program::without_servers();
    let client = Client::new();
    let metrics = async || client.get(format!("{}/metrics", program.base)).send().await.unwrap().text().await.unwrap();
    let before = counter(&metrics().await, "multivac_queue_errors_total");
    let started = Instant::now();
    let mut problem = Value::Null;
    for _ in 0..REQUESTS {
        let reply = client.get(format!("{}/multivac/stats", program.base)).send().await.unwrap();
        assert_eq!(reply.status(), 503);
        // Of the first, since lines that repeat are bounded.
        let reply = reply.json().await.unwrap();
        problem = if problem.is_null() { reply } else { problem };
    }
    let counted = counter(&metrics().await, "multivac_queue_errors_total") - before;
    // Each request, and what the process asks by itself once a second: the ledger, and the partitions.
    let by_itself = 2 * (started.elapsed().as_secs() + 2);
    let expected = REQUESTS..=REQUESTS + by_itself;
    assert!(expected.contains(&counted), "{counted} of {expected:?}");
    let trace_id = problem["trace_id"].as_str().unwrap();
    let logs = program.logs();
    let lines: Vec<&str> = logs.lines().filter(|line| line.contains(trace_id)).collect();
    assert_eq!(lines.len(), 1, "{logs}");
    assert!(lines[0].contains("WARN"), "{}", lines[0]);
}
