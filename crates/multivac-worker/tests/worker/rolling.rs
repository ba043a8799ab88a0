//! Every process is restarted, one after another, behind nginx: no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use multivac_testkit::nginx::Nginx;
use multivac_testkit::system::{Plan, System};
use multivac_testkit::wait::{until, until_ok};
use reqwest::{Client, RequestBuilder};
use tokio::task::{JoinSet, block_in_place};

use crate::test_worker::PROGRAM;

/// What clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    fed: AtomicU64,
    asked: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    async fn send(&self, request: RequestBuilder, count: &AtomicU64) {
        let outcome = match request.send().await {
            Ok(reply) => match (reply.status(), reply.bytes().await) {
                (status, Ok(_)) if status == 200 => {
                    count.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                (status, body) => format!("{status} {body:?}"),
            },
            Err(error) => format!("{error:?}"),
        };
        self.failed.lock().unwrap().push(outcome);
    }

    async fn client(self: Arc<Self>, http: Client, base: String, name: usize) {
        let mut n = 0;
        while !self.stop.load(Ordering::Relaxed) {
            n += 1;
            // Without an Idempotency-Key, so that a request that is sent twice becomes two data.
            let text = format!("Star {n} of client {name} went out.");
            self.send(http.post(format!("{base}/multivac/data")).form(&[("data", text)]), &self.fed).await;
            self.send(http.get(format!("{base}/multivac")), &self.asked).await;
            self.send(http.get(format!("{base}/multivac/stats")), &self.asked).await;
            // As clients do: some at once, some after a while in which their connections are idle.
            tokio::time::sleep(Duration::from_millis((name as u64 % 4) * 10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_behind_nginx_fails_no_request() {
    let Some(mut system) = System::start(Plan { workers: 2, ..Plan::new(PROGRAM) }).await else { return };
    let Some(nginx) = Nginx::start(&system.bases) else { return };
    let base = &nginx.base;
    until("nginx answers", async || {
        system.client.get(format!("{base}/healthz")).send().await.is_ok_and(|reply| reply.status() == 200)
    })
    .await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for name in 0..12 {
        clients.spawn(Arc::clone(&seen).client(system.client.clone(), base.clone(), name));
    }
    let work = async |more: u64| {
        let target = seen.fed.load(Ordering::Relaxed) + more;
        until_ok("clients go on feeding", async || match seen.fed.load(Ordering::Relaxed) >= target {
            true => Ok(()),
            false => Err(format!("{:?}", seen.failed.lock().unwrap())),
        })
        .await;
    };
    for _ in 0..2 {
        for replica in 0..system.apis.len() {
            work(100).await;
            let asked = Instant::now();
            assert_eq!(block_in_place(|| system.apis[replica].stop()), Some(0), "{}", system.log_tails());
            assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
            work(100).await;
            system.apis[replica].start_again();
            system.until(replica, "/readyz", |ready| ready["ready"] == true).await;
        }
        for worker in &mut system.workers {
            work(100).await;
            assert_eq!(block_in_place(|| worker.stop()), Some(0));
            worker.start_again();
        }
    }
    seen.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let failed = std::mem::take(&mut *seen.failed.lock().unwrap());
    let (fed, asked) = (seen.fed.load(Ordering::Relaxed), seen.asked.load(Ordering::Relaxed));
    assert!(failed.is_empty(), "{} of {} failed: {:#?}", failed.len(), fed + asked, &failed[..failed.len().min(5)]);
    let ledger = system.until_quiet().await;
    // Each 200 is a datum, and there are no others: none was sent twice.
    assert_eq!((ledger.accepted, ledger.learned), (fed, fed));
    eprintln!("{fed} fed and {asked} asked while everything was restarted twice, none failed");
    system.clean_up().await;
}
