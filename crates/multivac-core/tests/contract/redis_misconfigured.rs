//! What only a person can put right ends the start with a sentence that says what; what passes by itself is waited for.

use std::io::{Read, Write};
use std::net::TcpListener;

use deadpool_redis::redis::cmd;
use multivac_core::adapters::redis::RedisQueue;
use multivac_core::queue::{QueueAdmin, QueueError};
use multivac_testkit::cluster::RedisCluster;
use multivac_testkit::redis::{RedisServer, installed};

use crate::backends::redis_settings;
use crate::queue::long_lease;

/// Why a queue at these URLs cannot be prepared.
async fn refusal(urls: &[String]) -> QueueError {
    let queue = RedisQueue::new(redis_settings(urls.to_vec(), 1), long_lease()).unwrap();
    queue.prepare().await.unwrap_err()
}

async fn assert_refused(urls: &[String], expected: &str) {
    let refused = refusal(urls).await;
    assert!(matches!(refused, QueueError::Misconfigured(_)), "{urls:?}: {refused}");
    assert!(refused.to_string().contains(expected), "{urls:?}: {refused}");
    assert!(!refused.to_string().contains("geheim"), "{refused}");
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_said_and_not_waited_for() {
    let Some(binary) = installed() else { return };
    let server = RedisServer::start(&binary, &[]).await;
    let at = |user: &str, database: &str| vec![format!("redis://{user}127.0.0.1:{}{database}", server.port)];
    assert_refused(&at("", "/99"), "does not have the database").await;
    assert_refused(&at("nobody:geheim@", ""), "the user or the password is wrong").await;
    assert_refused(&at(":geheim@", ""), "percent-encode").await;

    let user = |rights: &'static [&str]| {
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg("user").arg("reset").arg("on").arg(">geheim").arg(rights);
        set
    };
    let as_user = at("user:geheim@", "");
    for rights in [
        ["~*", "+@all", "-info"].as_slice(),
        &["~*", "+@all", "-evalsha"],
        &["~*", "+@all", "-xpending"],
        // Within a script.
        &["~*", "+@all", "-xinfo"],
        &["~other:*", "+@all"],
    ] {
        server.ask::<()>(&user(rights)).await.unwrap();
        assert_refused(&as_user, "lacks a permission").await;
    }
    server.ask::<()>(&user(&["~*", "+@all", "-select"])).await.unwrap();
    assert_refused(&at("user:geheim@", "/1"), "may not select it").await;

    server.ask::<()>(cmd("CONFIG").arg("SET").arg("requirepass").arg("geheim")).await.unwrap();
    assert_refused(&at("", ""), "the user or the password is wrong").await;
}

#[tokio::test]
async fn commands_that_were_renamed_are_said_to_be_missing() {
    let Some(binary) = installed() else { return };
    for command in ["INFO", "XGROUP", "XINFO"] {
        let server = RedisServer::start(&binary, &["--rename-command", command, ""]).await;
        assert_refused(&[server.url()], "rename-command").await;
    }
}

#[tokio::test]
async fn one_url_of_a_cluster_and_several_of_none_are_told_apart() {
    let Some(binary) = installed() else { return };
    let (one, two) = tokio::join!(RedisServer::start(&binary, &[]), RedisServer::start(&binary, &[]));
    assert_refused(&[one.url(), two.url()], "it is no Cluster").await;
    let Some(cluster) = RedisCluster::start(installed()).await else { return };
    let urls = cluster.urls();
    let mut refused = 0;
    for url in urls {
        // The node that has the one partition's slot could be used by itself.
        let queue = RedisQueue::new(redis_settings(vec![url], 1), long_lease()).unwrap();
        if let Err(error) = queue.prepare().await {
            assert!(error.to_string().contains("separated by commas") && !error.is_transient(), "{error}");
            refused += 1;
        }
    }
    assert!(refused >= 2, "the other masters");
}

#[tokio::test]
async fn what_does_not_speak_redis_protocol_is_refused() {
    for reply in
        ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "\u{15}\u{3}\u{3}\0\u{2}\u{2}", "SSH-2.0-x\r\n"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let replying = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 1024]);
            let _ = connection.write_all(reply.as_bytes());
        });
        assert_refused(&[url], "does not speak Redis's protocol").await;
        replying.join().unwrap();
    }
}

#[tokio::test]
async fn what_passes_by_itself_is_waited_for() {
    let Some(binary) = installed() else { return };
    let mut server = RedisServer::start(&binary, &[]).await;
    let master = RedisServer::start(&binary, &[]).await;
    let settings = redis_settings(vec![server.url()], 1);
    let queue = RedisQueue::new(settings, long_lease()).unwrap();
    queue.prepare().await.unwrap();
    // A replica has the group as well, and takes no write.
    server.ask::<()>(cmd("REPLICAOF").arg("127.0.0.1").arg(master.port)).await.unwrap();
    let waits = queue.prepare().await.unwrap_err();
    assert!(waits.is_transient(), "{waits}");
    server.kill();
    let waits = queue.prepare().await.unwrap_err();
    assert!(waits.is_transient(), "{waits}");
}
