//! The worker's metrics: what docs/metrics.md says, and nothing that is not known now.

use multivac_testkit::hang::HangingServers;
use multivac_testkit::metrics::{Scrape, differences};
use multivac_testkit::port::free_port;
use multivac_testkit::process::Process;
use multivac_testkit::wait::until_ok;

use crate::test_worker::{Servers, program};

const LEDGER: &str = "multivac_data{state=\"accepted\"}";

/// Scrapes until something is so. A scrape never waits for a server.
async fn until(url: &str, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(1)).build().unwrap();
    until_ok(what, async || {
        // Its port is not open yet at first.
        let reply = client.get(url).send().await.map_err(|error| error.to_string())?;
        let scrape = Scrape::parse(&reply.text().await.map_err(|error| error.to_string())?);
        if holds(&scrape) { Ok(scrape) } else { Err(format!("{:?}", scrape.values)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_say_is_shown_while_they_say_it() {
    let Some(own) = HangingServers::start().await else { return };
    let servers = Servers::with(own.flags()).await;
    let address = format!("127.0.0.1:{}", free_port());
    let flags: Vec<&str> = servers.flags.iter().map(String::as_str).collect();
    let worker =
        Process::start(program(&flags).env("MULTIVAC_HEALTH_LISTEN", &address).env("MULTIVAC_EXPECT_BACKUPS", "true"));
    let url = format!("http://{address}/metrics");
    let reaches = |backend, scrape: &Scrape| scrape.get(&format!("multivac_reachable{{backend=\"{backend}\"}}"));

    let well = until(&url, "a worker that is ready", |scrape| {
        scrape.get("multivac_ready") == Some(1.0)
            && scrape.get(LEDGER).is_some()
            && scrape.get("multivac_disk_free_bytes{disk=\"store\"}").is_some()
            && scrape.get("multivac_queue_server_memory_bytes").is_some()
            && scrape.get("multivac_backup_completed_timestamp_seconds{kind=\"drill\"}").is_some()
    })
    .await;
    // This Redis has no limit of its memory.
    assert_eq!(differences(&well, &["both", "consumer"], &["multivac_queue_server_memory_max_bytes"]), [""; 0]);
    assert_eq!(well.get("multivac_consumer_loops_busy"), Some(0.0));

    own.pause();
    let hangs = until(&url, "both servers to be missed", |scrape| {
        reaches("queue", scrape) == Some(0.0) && reaches("store", scrape) == Some(0.0)
    })
    .await;
    for series in [LEDGER, "multivac_queue_unfinished", "multivac_queue_server_memory_bytes"] {
        assert_eq!(hangs.get(series), None, "{series}");
    }
    assert_eq!(hangs.get("multivac_ready"), Some(0.0));
    own.resume();
    until(&url, "both servers to be back", |scrape| {
        scrape.get("multivac_ready") == Some(1.0) && scrape.get(LEDGER).is_some()
    })
    .await;
    worker.signal("TERM");
    assert_eq!(worker.ended().await.code, Some(0));
}
