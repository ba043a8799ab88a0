//! Processes that a test starts, signals and kills. None outlives its test.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::TEST_TIMEOUT;

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Where our programs and the servers look for others; they get nothing else of the environment that the tests run in.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// A command without the environment that the tests run in, whose output is read.
pub fn isolated_command(line: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).env_clear().env("PATH", PATH).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program says when it refuses to start: a message, not a panic.
pub fn refusal(command: &mut Command) -> String {
    let exit = Process::start(command).wait();
    assert!(exit.code.is_some_and(|code| code > 0), "{exit:?}");
    assert!(!exit.stderr.contains("panicked") && !exit.stderr.contains("backtrace"), "{exit:?}");
    exit.stderr
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// Its status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote to its standard error, where that was read.
    pub stderr: String,
}

/// A process, killed when it is dropped.
pub struct Process {
    child: Child,
    first_line: Option<Receiver<String>>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a command. What of its output is piped is read all the time, so that a full pipe never stops it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let stderr_reader = child.stderr.take().map(|pipe| {
            let stderr = Arc::clone(&stderr);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    stderr.lock().unwrap().push_str(&format!("{line}\n"));
                }
            })
        });
        let first_line = child.stdout.take().map(|pipe| {
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || {
                let (mut pipe, mut line) = (BufReader::new(pipe), String::new());
                let _ = pipe.read_line(&mut line);
                let _ = sender.send(line);
                let _ = pipe.read_to_end(&mut Vec::new());
            });
            receiver
        });
        Self { child, first_line, stderr, stderr_reader }
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line of its standard output; empty when it has ended without one.
    pub fn first_line(&mut self) -> String {
        let lines = self.first_line.take().expect("standard output is piped, and its first line not taken yet");
        lines.recv_timeout(TEST_TIMEOUT).unwrap_or_default()
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has written this to its standard error.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.stderr().contains(text) {
            assert!(Instant::now() < deadline, "it does not log {text:?}: {}", self.stderr());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap().success());
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended.
    pub fn wait(mut self) -> Exit {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "it still runs: {}", self.stderr());
            std::thread::sleep(POLL_INTERVAL);
        }
        self.exit()
    }

    /// As [`Self::wait`], without blocking the thread.
    pub async fn ended(mut self) -> Exit {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "it still runs: {}", self.stderr());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.exit()
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn exit(mut self) -> Exit {
        let code = self.child.wait().unwrap().code();
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().unwrap();
        }
        Exit { code, stderr: self.stderr() }
    }

    /// Its resident memory in KiB, as the kernel counts it.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most that this was at any time.
    pub fn peak_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that can be started again as it was: the same flags, the same port, the same directory.
pub struct Service {
    /// What it is called in messages.
    pub name: String,
    line: Vec<OsString>,
    log: PathBuf,
    process: Option<Process>,
}

impl Service {
    /// Starts a command line. Its output is appended to `log`.
    pub fn start<T: Into<OsString>>(name: &str, line: impl IntoIterator<Item = T>, log: PathBuf) -> Self {
        let line = line.into_iter().map(Into::into).collect();
        let mut service = Self { name: name.to_owned(), line, log, process: None };
        service.start_again();
        service
    }

    /// Starts it again after it has ended.
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = isolated_command(&self.line);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::start(&mut command));
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    /// Whether it has ended by itself, or was killed or stopped.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(Process::has_ended)
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGSTOP: its connections stay open and it answers nothing, as if the network were cut, until [`Self::resume`].
    pub fn pause(&self) {
        self.running().signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.running().signal("CONT");
    }

    /// SIGTERM; its status once it has ended.
    pub fn stop(&mut self) -> Option<i32> {
        let process = self.process.take().expect("it was started");
        process.signal("TERM");
        process.wait().code
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}
