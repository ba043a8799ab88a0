//! What Redis and the system allow the programs: memory, and open files.

use std::process::Output;

use multivac_testkit::process::refusal;
use multivac_testkit::system::{Plan, System};
use multivac_testkit::wait::until;

use crate::test_worker::{PROGRAM, Servers, program};

#[tokio::test]
async fn too_few_open_files_end_the_start_with_what_is_needed_and_64_loops_work_with_enough() {
    let Some(servers) = Servers::find(&["--concurrency", "64"]).await else { return };
    let limited = |files: &str| {
        let mut command = multivac_testkit::process::isolated_command(&["sh", "-c"]);
        command.arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(PROGRAM).args(&servers.flags);
        command.env("MULTIVAC_HEALTH_LISTEN", "127.0.0.1:0").stdout(std::process::Stdio::null());
        command
    };
    for files in ["64", "191"] {
        let message = refusal(&mut limited(files));
        assert!(message.contains("192 open files are needed") && message.contains(files), "{message}");
    }
    let worker = multivac_testkit::process::Process::start(&mut limited("192"));
    servers.accept(5_000).await;
    servers.until(|ledger| ledger.learned == 5_000).await;
    assert!(!worker.stderr().contains("panicked") && !worker.stderr().contains("WARN"), "{}", worker.stderr());
    worker.signal("TERM");
    assert_eq!(worker.wait().code, Some(0));
    servers.clean_up().await;
}

#[tokio::test]
async fn a_redis_at_maxmemory_is_drained_by_those_who_start_then_and_looked_into_by_operators() {
    let Some(mut system) = System::start(Plan { workers: 0, ..Plan::new(PROGRAM) }).await else { return };
    let feed = async |system: &System, text: &str| {
        let request = system.client.post(format!("{}/multivac/data", system.bases[0])).form(&[("data", text)]);
        request.send().await.unwrap()
    };
    system.redis.node(0).set("maxmemory", "8mb").await;
    let text = "The stars go out one by one. ".repeat(2_000);
    let mut accepted = 0;
    let refused = loop {
        let reply = feed(&system, &text).await;
        if reply.status() != 200 {
            break reply;
        }
        accepted += 1;
    };
    assert!(accepted > 20, "{accepted}");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let problem = refused.text().await.unwrap();
    assert!(problem.contains("the queue is full; nothing was accepted"), "{problem}");
    system.redis.node(0).set("maxmemory", "1kb").await;

    // Operators' commands, and a replica and a worker that start now.
    let operator = |words: &[&str]| -> Output { program(words).args(system.server_flags()).output().unwrap() };
    for words in [["status"].as_slice(), &["dead", "list"], &["dead", "drop", "--all"], &["dead", "retry", "--all"]] {
        let output = operator(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    system.apis[0].kill();
    system.apis[0].start_again();
    system.until(0, "/readyz", |ready| ready["ready"] == true).await;
    system.add_worker();
    system.until(0, "/multivac/stats", |stats| stats["learned"] == accepted).await;
    system.redis.node(0).set("maxmemory", "8mb").await;
    until("there is room again", async || feed(&system, "One more.").await.status() == 200).await;
    let ledger = system.until_quiet().await;
    assert_eq!((ledger.accepted, ledger.learned), (accepted + 1, accepted + 1));
    system.clean_up().await;
}
