//! The embedded system when it is killed, started twice, and left without room on its disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;

use crate::program::{Program, Running, Seeded, inside, program};

/// Feeds one datum; its id, if it was accepted.
async fn feed(client: &Client, base: &str, text: &str) -> Option<String> {
    let reply = client.post(format!("{base}/multivac/data")).form(&[("data", text)]).send().await.ok()?;
    // A reply that breaks off in the middle was a 200 all the same.
    if reply.status() != 200 {
        return None;
    }
    let location = reply.headers()["location"].to_str().unwrap().to_owned();
    Some(location.rsplit('/').next().unwrap().to_owned())
}

/// Feeds on some connections until told to end; the ids that were accepted. Counts them as they come.
async fn load(base: &str, round: u64, count: &AtomicU64, end: &AtomicBool) -> Vec<String> {
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
                    // It is dead, or about to be: no use in asking as fast as can be.
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
async fn whatever_moment_it_is_killed_at_all_that_it_accepted_is_there() {
    const SEED: u64 = 4;
    const ROUNDS: u64 = 5;
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    let mut random = Seeded(SEED);
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        // Killed while it starts and recovers what the round before has left, before it may listen.
        let mut starting = Running(program(&[&["--listen", "127.0.0.1:0"], &flags[..]].concat()).spawn().unwrap());
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        starting.0.kill().unwrap();
        starting.0.wait().unwrap();

        let victim = Program::start(&flags);
        let (count, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let loading = tokio::spawn({
            let (base, count, end) = (victim.base.clone(), Arc::clone(&count), Arc::clone(&end));
            async move { load(&base, round, &count, &end).await }
        });
        // The moment is a number of data rather than of milliseconds, and then a little more.
        let until = 20 + random.below(400);
        while count.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
        victim.kill();
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
    let unheard = stats["accepted"].as_u64().unwrap() - accepted.len() as u64;
    assert_eq!(stats["accepted"], stats["learned"], "{stats}");
    // Eight connections, so at most eight data a round whose 200 was lost on the way.
    assert!(unheard <= 8 * ROUNDS, "{unheard} data that nobody was told of");
    assert_eq!(accepted.iter().collect::<std::collections::HashSet<_>>().len(), accepted.len(), "each id once");
    for ids in accepted.chunks(64) {
        let (program, client) = (&program, &client);
        join_all(ids.iter().map(|id| async move {
            program.until(client, &format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        }))
        .await;
    }
    eprintln!("seed {SEED}: {} accepted in {ROUNDS} rounds, {unheard} more whose 200 was lost", accepted.len());
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", directory.path().to_str().unwrap()];
    let first = Program::start(&flags[2..]);
    let second = program(&flags).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let expected = format!("{} is in use by process {}; stop that one", directory.path().display(), first.pid());
    assert!(said.contains(&expected), "{said}");
    // The first is not disturbed, and what ends, even killed, leaves the directory to the next.
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
    /// `None`, aloud, where it may not be made; never in CI.
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
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let disk = Self { holder, _end: end, directory };
        if said.trim() == "mounted" {
            return Some(disk);
        }
        assert!(std::env::var_os("CI").is_none(), "in CI the test runs as root");
        let _ = std::io::stderr().write_all(b"SKIPPED: no file system can be mounted here; run the tests as root\n");
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

    /// Gives it back.
    fn make_room(&self) {
        fs::remove_file(self.file("filler")).unwrap();
    }

    /// Starts the program inside.
    fn start(&self, flags: &[&str], temporary: &Path) -> Program {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        let line = [&["--listen", "127.0.0.1:0", "--log-format", "text"], flags].concat();
        Program::spawn(inside(&["nsenter", &namespace, "--"], &line).env("TMPDIR", temporary))
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
    // What the log still has room for is accepted, and that is true as well.
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
    // Questions are answered meanwhile, and the log has told of it, but not again and again.
    let answer = client.get(format!("{}/multivac", program.base)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = program.said().matches("disk of the data directory is full; nothing was written; what is fed").count();
    assert_eq!(told, 1, "{}", program.said());

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
    assert!(program.said().contains("can be written again"), "{}", program.said());

    // And a start on a full disk says what is wrong, or works.
    disk.fill();
    program.kill();
    let namespace = format!("--mount=/proc/{}/ns/mnt", disk.holder.id());
    let line = [&["--listen", "127.0.0.1:0", "--log-format", "text"], &flags[..]].concat();
    let mut starting = Running(inside(&["nsenter", &namespace, "--"], &line).spawn().unwrap());
    let mut said = String::new();
    let mut stdout = BufReader::new(starting.0.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    if said.is_empty() {
        starting.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(starting.0.wait().unwrap().code() == Some(1) && said.contains("full"), "{said}");
    }
    drop(starting);
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
    // Accepted, stored, and not to be answered with yet.
    program.until(&client, "/readyz", |ready| ready["missing"].to_string().contains("index")).await;
    assert_eq!(ask().await, "Penguins eat krill and small fish.");
    // It goes on trying, and does not say so each time.
    let tries = || async {
        let metrics = client.get(format!("{}/metrics", program.base)).send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("multivac_index_follow_errors "));
        line.unwrap().parse::<f64>().unwrap()
    };
    while tries().await < 3.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = program.said().matches("the index cannot be written").count();
    assert_eq!(told, 1, "{}", program.said());
    disk.make_room();
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 51 && stats["accepted"] == 51).await;
    assert_eq!(ask().await, "Penguins eat krill and small fish.");
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
}
