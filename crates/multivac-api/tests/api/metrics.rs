//! `GET /metrics`: what docs/metrics.md says, all of it from the first scrape, in both formats.

use multivac_testkit::metrics::{Scrape, differences};
use multivac_testkit::wait::until_ok;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::program::{Program, program};

/// What an embedded program never shows, since it has no server.
const OF_SERVERS: [&str; 2] = ["multivac_queue_server_memory_bytes", "multivac_queue_server_memory_max_bytes"];

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

async fn scrape(client: &Client, program: &Program, accept: &str) -> Scrape {
    let reply = client.get(format!("{}/metrics", program.base)).header("Accept", accept).send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let content_type = reply.headers()["content-type"].to_str().unwrap().to_owned();
    let text = reply.text().await.unwrap();
    let is_openmetrics = content_type.starts_with("application/openmetrics-text; version=1.0.0");
    assert!(is_openmetrics || content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    assert_eq!(text.ends_with("# EOF\n"), is_openmetrics);
    Scrape::parse(&text)
}

/// Scrapes until something is so.
async fn until(client: &Client, program: &Program, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    until_ok("the metrics", async || {
        let scraped = scrape(client, program, "*/*").await;
        if holds(&scraped) { Ok(scraped) } else { Err(scraped.values) }
    })
    .await
}

#[tokio::test]
async fn all_are_there_and_on_the_page_before_anything_has_happened() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", data, "--log-format", "text", "--expect-backups"];
    let program = Program::spawn(&mut program(&flags));
    let client = Client::new();
    // What is read once a second needs its first second.
    let first = until(&client, &program, |scrape| {
        scrape.get("multivac_ready") == Some(1.0)
            && scrape.get("multivac_data{state=\"accepted\"}").is_some()
            && scrape.get("multivac_disk_free_bytes{disk=\"index\"}").is_some()
            && scrape.get("multivac_disk_free_bytes{disk=\"store\"}").is_some()
            && scrape.get("multivac_queue_drained_per_second").is_some()
            && scrape.get("multivac_index_lag_seconds").is_some()
            && scrape.get("multivac_backup_completed_timestamp_seconds{kind=\"drill\"}") == Some(0.0)
    })
    .await;
    assert_eq!(differences(&first, &["both", "api", "consumer"], &OF_SERVERS), [""; 0]);
    for (name, kind) in &first.types {
        let own = !name.starts_with("process_");
        for (series, value) in first.values.iter().filter(|(series, _)| series.split('{').next() == Some(name)) {
            assert!(kind != "counter" || !own || *value == 0.0, "{series} {value}");
        }
    }
    // What objectives are about begins at 0 as well.
    for series in [
        "multivac_http_request_seconds_count{route=\"/multivac\",method=\"GET\",status=\"503\"}",
        "multivac_http_request_seconds_count{route=\"/multivac/data\",method=\"POST\",status=\"503\"}",
        "multivac_http_request_seconds_count{route=\"/multivac/data/{id}\",method=\"DELETE\",status=\"204\"}",
        "multivac_answerable_seconds_count",
    ] {
        assert_eq!(first.get(series), Some(0.0), "{series}");
    }
    let again = scrape(&client, &program, OPENMETRICS).await;
    assert_eq!(differences(&again, &["both", "api", "consumer"], &OF_SERVERS).len(), 1, "build_info is an info there");
}

#[tokio::test]
async fn data_are_counted_by_what_became_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let program =
        Program::spawn(&mut program(&["--listen", "127.0.0.1:0", "--data-dir", data, "--log-format", "text"]));
    let client = Client::new();
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    let feed = async |text: &str, key: &str| {
        let request = client.post(format!("{}/multivac/data", program.base)).header("Idempotency-Key", key);
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request.form(&[("data", text)]).header("traceparent", sampled).send().await.unwrap()
    };
    let reply: Value = feed("Stars go out.", "a").await.json().await.unwrap();
    assert_eq!(feed("Stars go out.", "a").await.status(), StatusCode::OK);
    assert_eq!(feed("Another text.", "a").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 1).await;
    let id = reply["id"].as_str().unwrap();
    let retracted = client.delete(format!("{}/multivac/data/{id}", program.base)).send().await.unwrap();
    assert_eq!(retracted.status(), StatusCode::NO_CONTENT);
    let counted =
        until(&client, &program, |scrape| scrape.get("multivac_data{state=\"retracted\"}") == Some(1.0)).await;
    for (series, count) in [
        ("multivac_accepted_total", 1.0),
        ("multivac_accepted_again_total", 1.0),
        ("multivac_accept_failures_total{reason=\"key_of_other_text\"}", 1.0),
        ("multivac_learned_total", 1.0),
        ("multivac_learned_retracted_total", 0.0),
        ("multivac_retractions_total{outcome=\"everywhere\"}", 1.0),
        ("multivac_answerable_seconds_count", 1.0),
        ("multivac_learn_seconds_count", 1.0),
        ("multivac_data{state=\"accepted\"}", 1.0),
        ("multivac_leases", 0.0),
    ] {
        assert_eq!(counted.get(series), Some(count), "{series}");
    }
    // In the old format nothing of a trace is shown; in the new one the caller's trace leads to the request.
    let with_exemplars = scrape(&client, &program, OPENMETRICS).await;
    let exemplar = with_exemplars.exemplars.iter().find(|e| e.contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert!(exemplar.is_some_and(|e| e.starts_with("{trace_id=\"")), "{:?}", with_exemplars.exemplars);
}

#[tokio::test]
async fn without_its_servers_a_scrape_says_so_at_once_and_shows_nothing_that_it_does_not_know() {
    let program = Program::without_servers();
    let client = Client::builder().timeout(std::time::Duration::from_secs(1)).build().unwrap();
    let down = until(&client, &program, |scrape| {
        scrape.get("multivac_reachable{backend=\"store\"}") == Some(0.0)
            && scrape.get("multivac_reachable{backend=\"queue\"}") == Some(0.0)
    })
    .await;
    assert_eq!(down.get("multivac_ready"), Some(0.0));
    assert!(down.get("multivac_queue_errors_total").unwrap() > 0.0);
    for absent in ["multivac_data", "multivac_queue_unfinished", "multivac_queue_bytes", "multivac_queue_warnings"] {
        assert!(!down.types.contains_key(absent), "{absent}");
    }
}
