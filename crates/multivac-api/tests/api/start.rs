//! The real program: how it starts, refuses to start, and stops.

use std::net::TcpListener;
use std::process::Output;

use multivac_testkit::port::free_port;
use multivac_testkit::process::{Process, refusal};
use multivac_testkit::wait::until;

use crate::program::{base_of, program};

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let message = refusal(&mut program(&["--listen", &address, "--data-dir", data.to_str().unwrap()]));
    assert!(message.contains(&address) && message.contains("in use"), "{message}");
    assert!(!data.exists(), "nothing was left behind");
}

#[test]
fn one_url_without_the_other_is_refused() {
    let message = refusal(program(&[]).env("REDIS_URL", "redis://127.0.0.1:1"));
    assert!(message.contains("MONGO_URL"), "{message}");
    let message = refusal(program(&[]).env("MONGO_URL", "mongodb://127.0.0.1:1"));
    assert!(message.contains("REDIS_URL"), "{message}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let message = refusal(&mut program(&["--listen", "127.0.0.1:0", "--data-dir", "/dev/null/data"]));
    assert!(message.contains("/dev/null/data"), "{message}");
}

#[test]
fn wrong_flags_and_values_are_refused_with_what_was_expected() {
    for (flags, expected) in [
        (["--no-such-flag", "x"], "--no-such-flag"),
        (["--max-datum-size", "1MB"], "1MiB"),
        (["--lease", "soon"], "30s"),
        (["--min-confidence", "2"], "from 0 to 1"),
        (["--min-precision", "1"], "a lower one"),
        (["--partitions", "0"], "1..=256"),
        (["--question", " "], "empty"),
    ] {
        let message = refusal(&mut program(&flags));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_password_is_not_repeated() {
    let message = refusal(
        program(&["--listen", "127.0.0.1:0"])
            .env("REDIS_URL", "nonsense://u:hunter2@h")
            .env("MONGO_URL", "mongodb://u:hunter2@h:port"),
    );
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn help_names_every_setting_and_shows_no_secret() {
    let Output { stdout, status, .. } = program(&["--help"]).env("REDIS_URL", "redis://u:hunter2@h").output().unwrap();
    let help = String::from_utf8(stdout).unwrap();
    assert!(status.success());
    for flag in [
        "--redis-url",
        "--mongo-url",
        "--listen",
        "--data-dir",
        "--question",
        "--max-datum-size",
        "--max-queued",
        "--min-confidence",
        "--namespace",
        "--partitions",
        "--log-format",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(!help.contains("hunter2"));
}

#[tokio::test]
async fn it_says_where_it_listens_waits_for_servers_and_stops_cleanly() {
    let unreachable = format!("127.0.0.1:{}", free_port());
    let mut command = program(&["--listen", "127.0.0.1:0", "--log-format", "text"]);
    command
        .env("REDIS_URL", format!("redis://{unreachable}"))
        .env("MONGO_URL", format!("mongodb://{unreachable}/?serverSelectionTimeoutMS=300"));
    let mut process = Process::start(&mut command);
    let base = base_of(&mut process);
    process.wait_for_log("waiting for the queue and the store");

    let ready = reqwest::get(format!("{base}/readyz")).await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("not there yet"));
    assert_eq!(reqwest::get(format!("{base}/healthz")).await.unwrap().status(), 200);
    let client = reqwest::Client::new();
    let reply = client.post(format!("{base}/multivac/data")).form(&[("data", "x")]).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.headers().contains_key("retry-after"));
    process.signal("TERM");
    assert_eq!(process.ended().await.code, Some(0));
}

#[tokio::test]
async fn it_can_be_asked_for_its_health_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data];
    let mut serving = Process::start(&mut program(&flags));
    let address = base_of(&mut serving).trim_start_matches("http://").to_owned();
    let health = |flags: &[&str]| program(flags).env("MULTIVAC_LISTEN", &address).output().unwrap();
    assert_eq!(health(&["health", "--live"]).status.code(), Some(0));
    until("it becomes ready", async || health(&["health"]).status.code() == Some(0)).await;
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code, Some(0));
    let asked = health(&["health", "--live"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&asked.stderr).contains(&address));
}
