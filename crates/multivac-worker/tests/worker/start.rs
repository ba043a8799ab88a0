//! What makes the program refuse to start, and what it says then.

use std::net::TcpListener;

use multivac_testkit::mongo::{self, Mongod};
use multivac_testkit::port::free_port;
use multivac_testkit::process::{Process, refusal};
use multivac_testkit::wait::until;

use crate::test_worker::{Servers, program};

#[test]
fn it_refuses_to_start_without_both_servers() {
    let message = refusal(&mut program(&[]));
    assert!(message.contains("REDIS_URL and MONGO_URL"), "{message}");
    let message = refusal(program(&[]).env("REDIS_URL", "redis://127.0.0.1:1"));
    assert!(message.contains("MONGO_URL is not"), "{message}");
    let message = refusal(program(&[]).env("MONGO_URL", "mongodb://127.0.0.1:1"));
    assert!(message.contains("REDIS_URL is not"), "{message}");
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
        let message = refusal(&mut program(&flags));
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = refusal(program(&[]).env("MULTIVAC_HEALTH_LISTEN", &address).args(&servers.flags));
    assert!(message.contains(&address) && message.contains("in use"), "{message}");
    servers.clean_up().await;
}

#[tokio::test]
async fn a_mongodb_that_is_not_a_replica_set_is_refused_with_advice() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let Some(mongod) = mongo::installed() else { return };
    let stand_alone = Mongod::start(&mongod, &[]);
    let redis = &servers.flags[1];
    // It waits until mongod is there, and then does not go on waiting.
    let message =
        refusal(&mut program(&["--redis-url", redis, "--mongo-url", &format!("mongodb://{}", stand_alone.host())]));
    assert!(message.contains("replica set"), "{message}");
    servers.clean_up().await;
}

#[tokio::test]
async fn it_can_be_asked_for_its_health_by_itself() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let address = format!("127.0.0.1:{}", free_port());
    let health = |flags: &[&str]| program(flags).env("MULTIVAC_HEALTH_LISTEN", &address).output().unwrap();
    assert_eq!(health(&["health"]).status.code(), Some(1), "it has not been started yet");
    let worker = Process::start(program(&[]).env("MULTIVAC_HEALTH_LISTEN", &address).args(&servers.flags));
    until("it becomes ready", async || health(&["health"]).status.code() == Some(0)).await;
    assert_eq!(health(&["health", "--live"]).status.code(), Some(0));
    worker.signal("TERM");
    assert_eq!(worker.wait().code, Some(0));
    servers.clean_up().await;
}
