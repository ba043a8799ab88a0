//! The embedded system when it is killed, started twice, and left without room on its disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use multivac_testkit::environment;
use multivac_testkit::process::Process;
use reqwest::Client;
use serde_json::Value;

use crate::program::{Program, program, wrapped_program};

/// Feeds one datum; its id, if it was accepted.
async fn feed(client: &Client, base: &str, text: &str) -> Option<String> {
    let reply = client.post(format!("{base}/multivac/data")).form(&[("data", text)]).send().await.ok()?;
    // The head is enough: if the body breaks off, the datum was accepted all the same.
    if reply.status() != 200 {
        return None;
    }
    let location = reply.headers()["location"].to_str().unwrap().to_owned();
    Some(location.rsplit('/').next().unwrap().to_owned())
}

/// Feeds on some connections until `end` is set; returns the ids that were accepted, and counts them as they come.
async fn load(base: &str, round: u64, count: &AtomicUsize, end: &AtomicBool) -> Vec<String> {
    let client = Client::new();
    let connections = (0..8).map(|connection| {
        let client = client.clone();
        async move {
            let mut ids = Vec::new();
            let mut n = 0;
            while !end.load(Ordering::Relaxed) {
                let text = format!("Star {n} of round {round}, seen by {connection}, went out.");
                match feed(&client, base, &text).await {
                    Some(id) => {
                        ids.push(id);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    // It is dead, or about to be: asking faster would not help.
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
                n += 1;
            }
            ids
        }
    });
    join_all(connections).await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_keeps_all_that_it_accepted() {
    const SEED: u64 = 4;
    const ROUNDS: u64 = 5;
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    let mut rng = Rng::with_seed(SEED);
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        // It is killed while it starts and recovers what the previous round left, before it listens.
        let mut starting = Process::start(&mut program(&[&["--listen", "127.0.0.1:0"], &flags[..]].concat()));
        tokio::time::sleep(Duration::from_millis(rng.u64(..60))).await;
        starting.kill();

        let program = Program::start(&flags);
        let (count, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let loading = tokio::spawn({
            let (base, count, end) = (program.base.clone(), Arc::clone(&count), Arc::clone(&end));
            async move { load(&base, round, &count, &end).await }
        });
        // The moment of the kill is a number of data rather than a time, so that it lies within the load on any machine.
        let until = 20 + rng.usize(..400);
        while count.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(rng.u64(..3_000))).await;
        program.kill();
        end.store(true, Ordering::Relaxed);
        accepted.extend(loading.await.unwrap());
    }

    let program = Program::start(&flags);
    let client = Client::new();
    let stats = program
        .until(&client, "/multivac/stats", |stats| {
            stats["queued"] == 0 && stats["processing"] == 0 && stats["accepted"].is_u64()
        })
        .await;
    let unconfirmed = stats["accepted"].as_u64().unwrap() - accepted.len() as u64;
    assert_eq!(stats["accepted"], stats["learned"], "{stats}");
    // Eight connections, so at most eight data a round whose 200 was lost on the way.
    assert!(unconfirmed <= 8 * ROUNDS, "{unconfirmed} data whose 200 was lost");
    assert_eq!(accepted.iter().collect::<std::collections::HashSet<_>>().len(), accepted.len(), "each id once");
    for ids in accepted.chunks(64) {
        let (program, client) = (&program, &client);
        join_all(ids.iter().map(|id| async move {
            program.until(client, &format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        }))
        .await;
    }
    eprintln!("seed {SEED}: {} accepted in {ROUNDS} rounds, {unconfirmed} more whose 200 was lost", accepted.len());
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused_with_the_number_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", directory.path().to_str().unwrap()];
    let first = Program::start(&flags[2..]);
    let second = program(&flags).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    let expected = format!("{} is in use by process {}; stop that one", directory.path().display(), first.process.id());
    assert!(message.contains(&expected), "{message}");
    // The first goes on undisturbed. When a process ends, even by SIGKILL, the next can use the directory.
    assert!(feed(&Client::new(), &first.base, "still here").await.is_some());
    first.kill();
    Program::start(&flags[2..]);
}

/// A file system of a fixed size in memory. It lives in a mount namespace that is held by a process which ends with this
/// one, so that nothing is left behind, whichever way the test ends.
struct SmallDisk {
    holder: Child,
    _end: ChildStdin,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// Where it may not be mounted, the test is skipped.
    fn new(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = format!("mount -t tmpfs -o size={size} none \"$0\" && echo mounted && exec cat >/dev/null");
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &mount])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let end = holder.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let disk = Self { holder, _end: end, directory };
        if line.trim() == "mounted" {
            return Some(disk);
        }
        environment::skip("no file system can be mounted here; run the tests as root");
        None
    }

    /// The directory as those inside see it.
    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file in it, as seen from here.
    fn file(&self, name: &str) -> PathBuf {
        let inside = format!("/proc/{}/root{}", self.holder.id(), self.path().display());
        Path::new(&inside).join(name)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut filler = File::create(self.file("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        while filler.write_all(&[0; 64]).is_ok() {}
    }

    /// Frees it again.
    fn make_room(&self) {
        fs::remove_file(self.file("filler")).unwrap();
    }

    /// The program inside, with a directory for temporary files.
    fn program(&self, flags: &[&str], temporary: &Path) -> Command {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        let flags = [&["--listen", "127.0.0.1:0", "--log-format", "text"], flags].concat();
        let mut command = wrapped_program(&["nsenter", &namespace, "--"], &flags);
        command.env("TMPDIR", temporary);
        command
    }

    fn start(&self, flags: &[&str], temporary: &Path) -> Program {
        Program::spawn(&mut self.program(flags, temporary))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_fed_keeps_what_it_has_and_recovers() {
    let Some(disk) = SmallDisk::new("24m") else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", disk.path().to_str().unwrap()];
    let program = disk.start(&flags, elsewhere.path());
    let client = Client::new();
    let mut accepted = Vec::new();
    accepted.push(feed(&client, &program.base, "Before the disk was full, stars were bright.").await.unwrap());
    disk.fill();
    // What the write-ahead log still has room for is accepted, and kept.
    let text = "The disk is full of words like these. ".repeat(2_000);
    let refused = loop {
        let reply =
            client.post(format!("{}/multivac/data", program.base)).form(&[("data", &text)]).send().await.unwrap();
        if reply.status() != 200 {
            break reply;
        }
        accepted.push(reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned());
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let problem: Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("full"), "{problem}");
    for _ in 0..50 {
        if let Some(id) = feed(&client, &program.base, &text).await {
            accepted.push(id);
        }
    }
    // Questions are answered meanwhile, and the log says so once rather than for each datum.
    let answer = client.get(format!("{}/multivac", program.base)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let logged = program.logs().matches("disk of the data directory is full; nothing was written; what is fed").count();
    assert_eq!(logged, 1, "{}", program.logs());

    disk.make_room();
    let again = loop {
        if let Some(id) = feed(&client, &program.base, "There is room again.").await {
            break id;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    accepted.push(again);
    let all = accepted.len();
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == all && stats["accepted"] == all).await;
    assert!(program.logs().contains("can be written again"), "{}", program.logs());

    // A start on a full disk either works or says what is wrong.
    disk.fill();
    program.kill();
    let mut starting = Process::start(&mut disk.program(&flags, elsewhere.path()));
    if starting.first_line().is_empty() {
        let exit = starting.wait();
        assert!(exit.code == Some(1) && exit.stderr.contains("full"), "{exit:?}");
    } else {
        starting.kill();
    }
    disk.make_room();
    let program = disk.start(&flags, elsewhere.path());
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == all && stats["accepted"] == all).await;
}

#[tokio::test]
async fn an_index_without_room_keeps_answering_and_fills_up_later() {
    let Some(disk) = SmallDisk::new("24m") else { return };
    let data = tempfile::tempdir().unwrap();
    let program = disk.start(&["--data-dir", data.path().to_str().unwrap()], disk.path());
    let client = Client::new();
    let ask = || async {
        let request = client.get(format!("{}/multivac?question=What+do+penguins+eat", program.base));
        request.send().await.unwrap().text().await.unwrap()
    };
    feed(&client, &program.base, "Penguins eat krill and small fish.").await.unwrap();
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 1).await;
    assert_eq!(ask().await, "Penguins eat krill and small fish.");
    disk.fill();
    for n in 0..50 {
        feed(&client, &program.base, &format!("Star {n} went out. ").repeat(500)).await.unwrap();
    }
    // They are accepted and stored, but not in the index yet.
    program.until(&client, "/readyz", |ready| ready["missing"].to_string().contains("index")).await;
    assert_eq!(ask().await, "Penguins eat krill and small fish.");
    // It goes on trying, and logs that once.
    let tries = || async {
        let metrics = client.get(format!("{}/metrics", program.base)).send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("multivac_index_follow_errors_total "));
        line.unwrap().parse::<f64>().unwrap()
    };
    while tries().await < 3.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let logged = program.logs().matches("the index cannot be written").count();
    assert_eq!(logged, 1, "{}", program.logs());
    disk.make_room();
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 51 && stats["accepted"] == 51).await;
    assert_eq!(ask().await, "Penguins eat krill and small fish.");
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
}
