//! The real program as a process of its own, for tests that start, signal and kill it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;

use crate::test_app::PATIENCE;

/// The program with nothing of the environment that the tests run in.
pub(crate) fn program(flags: &[&str]) -> Command {
    inside(&[], flags)
}

/// The same, behind a command that runs it, such as nsenter.
pub(crate) fn inside(wrapper: &[&str], flags: &[&str]) -> Command {
    let mut line = wrapper.to_vec();
    line.push(env!("CARGO_BIN_EXE_multivac-api"));
    line.extend(flags);
    let mut command = Command::new(line[0]);
    command.args(&line[1..]);
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that is killed with the test at the latest.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program while it listens, with all that it says on its standard error.
pub(crate) struct Program {
    pub(crate) base: String,
    pub(crate) running: Running,
    said: Arc<Mutex<String>>,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(&mut program(&[&["--listen", "127.0.0.1:0", "--log-format", "text"], flags].concat()))
    }

    /// The same with a command made by [`program`], which has to have it log as text.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut running = Running(command.spawn().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(running.0.stderr.take().unwrap());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                heard.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
        let (first, listens) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = first.send(line);
            // What comes after is taken away, or a full pipe would stop the program.
            let _ = stdout.read_to_string(&mut String::new());
        });
        let line = listens.recv_timeout(PATIENCE).unwrap_or_default();
        let base = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(base.starts_with("http://"), "it does not listen: {line}{}", said.lock().unwrap());
        Self { base, running, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.0.id()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap().success());
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Kills it as nothing else can, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.running.0.kill().unwrap();
        self.running.0.wait().unwrap();
    }

    /// Its exit code (-1: a signal ended it), once it has ended by itself.
    pub(crate) async fn ended(mut self) -> (i32, String) {
        let deadline = Instant::now() + Duration::from_secs(35);
        loop {
            if let Some(status) = self.running.0.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), self.said());
            }
            assert!(Instant::now() < deadline, "it still runs: {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The resident memory in KiB, as the kernel counts it.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Looks again until it is so; shows what it was otherwise.
    pub(crate) async fn until(&self, client: &Client, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut seen = Value::Null;
        loop {
            // A connection that is cut off is tried again, as one that comes too early.
            if let Ok(reply) = client.get(format!("{}{path}", self.base)).send().await
                && let Ok(json) = reply.json().await
            {
                seen = json;
            }
            if so(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{path} stays {seen}; it said {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Numbers that follow from a seed, so that a run can be repeated (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    /// The next one below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
