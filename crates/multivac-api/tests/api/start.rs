//! The real program: how it starts, refuses to, and stops.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use crate::program::{Running, program};
use crate::test_app::PATIENCE;

fn wait(child: &mut Child) -> i32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Its one clear sentence, where it must not start.
fn refusal(command: &mut Command) -> String {
    let mut child = Running(command.spawn().unwrap());
    let code = wait(&mut child.0);
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(code > 0, "{code}: {said}");
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
    said
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let said = refusal(&mut program(&["--listen", &address, "--data-dir", data.to_str().unwrap()]));
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    assert!(!data.exists(), "nothing was left behind");
}

#[test]
fn one_url_without_the_other_is_refused() {
    let said = refusal(program(&[]).env("REDIS_URL", "redis://127.0.0.1:1"));
    assert!(said.contains("MONGO_URL"), "{said}");
    let said = refusal(program(&[]).env("MONGO_URL", "mongodb://127.0.0.1:1"));
    assert!(said.contains("REDIS_URL"), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_is_refused() {
    let said = refusal(&mut program(&["--listen", "127.0.0.1:0", "--data-dir", "/dev/null/data"]));
    assert!(said.contains("/dev/null/data"), "{said}");
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
        let said = refusal(&mut program(&flags));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_password_is_not_repeated() {
    let said = refusal(
        program(&["--listen", "127.0.0.1:0"])
            .env("REDIS_URL", "nonsense://u:hunter2@h")
            .env("MONGO_URL", "mongodb://u:hunter2@h:port"),
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn help_tells_of_every_setting_and_no_secret() {
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

#[test]
fn it_says_where_it_listens_waits_for_servers_and_stops_cleanly() {
    // Ports that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = program(&["--listen", "127.0.0.1:0", "--log-format", "text"]);
    command
        .env("REDIS_URL", format!("redis://{nobody}"))
        .env("MONGO_URL", format!("mongodb://{nobody}/?serverSelectionTimeoutMS=300"));
    let mut child = Running(command.spawn().unwrap());
    let mut first = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let base = first.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(base.starts_with("http://127.0.0.1:"), "{first}");
    let stderr = child.0.stderr.take().unwrap();
    let waiting = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("waiting for the queue and the store"));
    assert!(waiting.is_some());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ready = reqwest::get(format!("{base}/readyz")).await.unwrap();
        assert_eq!(ready.status(), 503);
        assert!(ready.text().await.unwrap().contains("not there yet"));
        assert_eq!(reqwest::get(format!("{base}/healthz")).await.unwrap().status(), 200);
        let fed =
            reqwest::Client::new().post(format!("{base}/multivac/data")).form(&[("data", "x")]).send().await.unwrap();
        assert_eq!(fed.status(), 503);
        assert!(fed.headers().contains_key("retry-after"));
    });
    let killed = Command::new("kill").arg(child.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(wait(&mut child.0), 0);
}

#[test]
fn it_can_be_asked_for_its_health_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data];
    let mut serving = Running(program(&flags).spawn().unwrap());
    let mut first = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let address = first.trim().rsplit('/').next().unwrap().to_owned();
    let health = |flags: &[&str]| program(flags).env("MULTIVAC_LISTEN", &address).output().unwrap();
    assert_eq!(health(&["health", "--live"]).status.code(), Some(0));
    let deadline = Instant::now() + PATIENCE;
    while health(&["health"]).status.code() != Some(0) {
        assert!(Instant::now() < deadline, "it does not become ready");
    }
    assert!(Command::new("kill").arg(serving.0.id().to_string()).status().unwrap().success());
    assert_eq!(wait(&mut serving.0), 0);
    let asked = health(&["health", "--live"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&asked.stderr).contains(&address));
}
