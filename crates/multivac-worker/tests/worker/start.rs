//! What the program refuses to start with, and what it says then.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::process::{PATIENCE, Running};
use crate::test_worker::{Servers, program};

/// Its one clear sentence.
fn refusal(command: &mut Command) -> String {
    let (code, said) = Running::start(command).wait();
    assert!(code.is_some_and(|code| code > 0), "{code:?}: {said}");
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
    said
}

#[test]
fn it_needs_both_servers() {
    let said = refusal(&mut program(&[]));
    assert!(said.contains("REDIS_URL and MONGO_URL"), "{said}");
    let said = refusal(program(&[]).env("REDIS_URL", "redis://127.0.0.1:1"));
    assert!(said.contains("MONGO_URL is not"), "{said}");
    let said = refusal(program(&[]).env("MONGO_URL", "mongodb://127.0.0.1:1"));
    assert!(said.contains("REDIS_URL is not"), "{said}");
}

#[test]
fn wrong_flags_and_values_are_refused_with_what_was_expected() {
    for (flags, expected) in [
        (["--no-such-flag", "x"], "--no-such-flag"),
        (["--lease", "soon"], "30s"),
        (["--max-attempts", "0"], "1..=1000"),
        (["--concurrency", "none"], "--concurrency"),
        (["--redis-url-file", "/no/such/file"], "/no/such/file"),
    ] {
        let said = refusal(&mut program(&flags));
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal(program(&[]).env("MULTIVAC_HEALTH_LISTEN", &address).args(&servers.flags));
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    servers.clean_up().await;
}

#[tokio::test]
async fn a_mongodb_that_is_no_replica_set_is_refused_with_what_to_do() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let Ok(mongod) = std::env::var("MULTIVAC_TEST_MONGOD") else { return };
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut alone = Command::new(mongod);
    alone.args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--nounixsocket", "--dbpath"]);
    alone.arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let _alone = Running::start(&mut alone);
    let redis = &servers.flags[1];
    // It waits until mongod is there, and then does not go on waiting.
    let said = refusal(&mut program(&["--redis-url", redis, "--mongo-url", &format!("mongodb://127.0.0.1:{port}")]));
    assert!(said.contains("replica set"), "{said}");
    servers.clean_up().await;
}

#[tokio::test]
async fn it_can_be_asked_for_its_health_by_itself() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let health = |flags: &[&str]| program(flags).env("MULTIVAC_HEALTH_LISTEN", &address).output().unwrap();
    assert_eq!(health(&["health"]).status.code(), Some(1), "nobody is there yet");
    let worker = Running::start(program(&[]).env("MULTIVAC_HEALTH_LISTEN", &address).args(&servers.flags));
    let deadline = Instant::now() + PATIENCE;
    while health(&["health"]).status.code() != Some(0) {
        assert!(Instant::now() < deadline, "it does not become ready");
    }
    assert_eq!(health(&["health", "--live"]).status.code(), Some(0));
    worker.signal("TERM");
    assert_eq!(worker.wait().0, Some(0));
    servers.clean_up().await;
}
