//! The queue is full.

use multivac_testkit::backends::SharedServers;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::test_app::TestApp;

impl TestApp {
    async fn offer(&self, text: &str) -> Response {
        self.request(Method::POST, "/multivac/data").form(&[("data", text)]).send().await.unwrap()
    }
}

/// After how many seconds it asks to come again, in a refusal that is as the contract says.
async fn refused(reply: Response) -> u64 {
    assert_eq!(reply.status(), 503);
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    let seconds = reply.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let problem: Value = reply.json().await.unwrap();
    assert_eq!(problem["detail"], "the queue is full; nothing was accepted");
    seconds
}

#[actix_web::test]
async fn a_queue_full_in_data_or_in_bytes_refuses_and_says_when_to_come_again() {
    // No worker: what is accepted stays.
    for limits in
        [["--max-queued", "2", "--max-datum-size", "1KiB"], ["--max-queued-bytes", "1KiB", "--max-datum-size", "1KiB"]]
    {
        let Some(servers) = SharedServers::find() else { return };
        let flags = servers.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(limits).collect();
        let app = TestApp::start(&flags).await;
        let text = "x".repeat(512);
        for _ in 0..2 {
            assert_eq!(app.offer(&text).await.status(), 200);
        }
        refused(app.offer(&text).await).await;
        let line = format!("{}\n", serde_json::json!({ "data": text }));
        let bulk = app.request(Method::POST, "/multivac/data/bulk").header("Content-Type", "application/x-ndjson");
        refused(bulk.body(line).send().await.unwrap()).await;
        let stats = app.json("/multivac/stats").await;
        assert_eq!((&stats["accepted"], &stats["queued"]), (&2.into(), &2.into()));
        // Once it has measured that nothing leaves the queue, it asks for a minute.
        while refused(app.offer(&text).await).await != 60 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let metrics = app.get("/metrics").await.text().await.unwrap();
        // No values: the applications of all tests share this process, and its metrics.
        assert!(
            metrics.contains("\nmultivac_queue_bytes ") && metrics.contains("\nmultivac_refused_total "),
            "{metrics}"
        );
        app.stop().await;
        servers.clean_up().await;
    }
}

#[actix_web::test]
async fn a_limit_that_is_smaller_than_the_largest_datum_is_refused_at_start() {
    use clap::Parser;
    let line = ["multivac-api", "--max-queued-bytes", "3MiB", "--partitions", "4"];
    let refused = multivac_api::config::Config::parse_from(line).queue_settings().unwrap_err();
    assert!(refused.to_string().contains("4MiB or more"), "{refused}");
}
