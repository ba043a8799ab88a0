//! Programs that a test starts, signals, kills and starts again; each ends with the test at the latest.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long anything may take that takes seconds on a quiet machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running process; ended with the test at the latest.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Its exit code (`None`: a signal ended it), and what it said, where that is not written to a file.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let stderr = self.0.stderr.take();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            if let Some(mut stderr) = stderr {
                stderr.read_to_string(&mut said).unwrap();
            }
            said
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return (status.code(), said.join().unwrap());
            }
            assert!(Instant::now() < deadline, "it still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that runs, or can run again as it did: the same flags, the same port, the same directory.
pub(crate) struct Program {
    pub(crate) name: String,
    line: Vec<OsString>,
    log: PathBuf,
    running: Option<Running>,
}

impl Program {
    /// What it says goes to `log`.
    pub(crate) fn start<T: Into<OsString>>(name: &str, line: impl IntoIterator<Item = T>, log: PathBuf) -> Self {
        let line = line.into_iter().map(Into::into).collect();
        let mut program = Self { name: name.to_owned(), line, log, running: None };
        program.again();
        program
    }

    /// Starts it again.
    pub(crate) fn again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.line[0]);
        command.args(&self.line[1..]).env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running = Some(Running::start(&mut command));
    }

    /// SIGKILL, from one moment to the next.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// SIGSTOP: it falls silent, as behind a network that is cut, until [`Self::thaw`].
    pub(crate) fn freeze(&self) {
        self.running.as_ref().expect("it runs").signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.running.as_ref().expect("it runs").signal("CONT");
    }

    /// SIGTERM, and its exit code once it has ended.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let running = self.running.take().expect("it runs");
        running.signal("TERM");
        running.wait().0
    }

    pub(crate) fn signal(&self, name: &str) {
        self.running.as_ref().expect("it runs").signal(name);
    }

    /// The end of what it said, for whoever looks into a failure.
    pub(crate) fn said(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// A port for a program that has to come back to it.
///
/// Below those that the system gives to outgoing connections, which would take it while its program is down.
pub(crate) fn free_port() -> u16 {
    static START: OnceLock<u16> = OnceLock::new();
    let start = *START.get_or_init(|| (std::process::id() % 12_000) as u16);
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    loop {
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 20_000 + (start + n) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
