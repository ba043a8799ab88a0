//! Every process is restarted, one after another, behind nginx: no request fails.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};
use tokio::task::{JoinSet, block_in_place};

use crate::process::{PATIENCE, Program, free_port};
use crate::system::{Plan, System};

/// nginx with no more of a configuration than a pair of replicas needs: one that does not answer is passed over, and what was
/// sent to it is sent to the other where that cannot do harm, which nginx by itself never does with a POST that was sent.
fn nginx(system: &System, directory: &std::path::Path) -> Option<(Program, String)> {
    let Ok(nginx) = std::env::var("MULTIVAC_TEST_NGINX") else {
        assert!(std::env::var_os("CI").is_none(), "in CI nothing may be left out");
        return None;
    };
    let port = free_port();
    let mut servers = String::new();
    for base in &system.bases {
        writeln!(servers, "server {} max_fails=0;", base.trim_start_matches("http://")).unwrap();
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.display()))
        .concat();
    let configuration = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log info;
         events {{ worker_connections 512; }}
         http {{
             access_log off;
             {temporary}
             upstream replicas {{ {servers} keepalive 16; }}
             server {{
                 listen 127.0.0.1:{port};
                 location / {{
                     proxy_pass http://replicas;
                     proxy_http_version 1.1;
                     proxy_set_header Connection '';
                     proxy_next_upstream error timeout;
                 }}
             }}
         }}",
        at = directory.display()
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let line = [nginx.into(), "-c".into(), file.into_os_string(), "-p".into(), directory.into()];
    Some((Program::start("nginx", line, directory.join("nginx.log")), format!("http://127.0.0.1:{port}")))
}

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
            // No Idempotency-Key: nobody could send it again without harm.
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
    let Some(mut system) = System::start(Plan { workers: 2, ..Plan::default() }).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let Some((_nginx, base)) = nginx(&system, directory.path()) else { return };
    let deadline = Instant::now() + PATIENCE;
    while !system.client.get(format!("{base}/healthz")).send().await.is_ok_and(|reply| reply.status() == 200) {
        assert!(Instant::now() < deadline, "nginx does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for name in 0..12 {
        clients.spawn(Arc::clone(&seen).client(system.client.clone(), base.clone(), name));
    }
    let work = async |more: u64| {
        let (target, deadline) = (seen.fed.load(Ordering::Relaxed) + more, Instant::now() + PATIENCE);
        while seen.fed.load(Ordering::Relaxed) < target {
            assert!(Instant::now() < deadline, "the load stands still: {:?}", seen.failed.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for _ in 0..2 {
        for replica in 0..system.apis.len() {
            work(100).await;
            let asked = Instant::now();
            assert_eq!(block_in_place(|| system.apis[replica].stop()), Some(0), "{}", system.said());
            assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
            work(100).await;
            system.apis[replica].again();
            system.until(replica, "/readyz", |ready| ready["ready"] == true).await;
        }
        for worker in &mut system.workers {
            work(100).await;
            assert_eq!(block_in_place(|| worker.stop()), Some(0));
            worker.again();
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
    eprintln!("{fed} fed and {asked} asked while all was restarted twice, none failed");
    system.clean_up().await;
}
