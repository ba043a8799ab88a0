//! What the system allows the process: open files.

use std::net::TcpStream;
use std::time::Duration;

use multivac_testkit::process::refusal;
use reqwest::Client;

use crate::program::{Program, wrapped_program};

/// The program under a limit of open files that it cannot raise.
fn limited(files: &str, data: &str) -> std::process::Command {
    let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data];
    wrapped_program(&["sh", "-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")], &flags)
}

#[test]
fn too_few_open_files_end_the_start_with_what_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for files in ["32", "64", "575"] {
        let message = refusal(&mut limited(files, data.to_str().unwrap()));
        assert!(message.contains("576 open files are needed") && message.contains(files), "{message}");
    }
    assert!(!data.exists(), "nothing was left behind");
}

#[tokio::test]
async fn with_just_enough_open_files_more_connections_wait_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::spawn(&mut limited("576", directory.path().to_str().unwrap()));
    let client = Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(30)).build().unwrap();
    let address = program.base.trim_start_matches("http://").to_owned();
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    // More than it has files for. They say nothing, and are closed for that after some seconds.
    let idle: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let feed =
        |n: u32| client.post(format!("{}/multivac/data", program.base)).form(&[("data", format!("number {n}"))]).send();
    let waiting = tokio::spawn(feed(0));
    drop(idle);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    let replies = futures_util::future::join_all((1..100).map(feed)).await;
    assert!(replies.into_iter().all(|reply| reply.unwrap().status() == 200));
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 100).await;
    assert!(!program.logs().contains("panicked"), "{}", program.logs());
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
}
