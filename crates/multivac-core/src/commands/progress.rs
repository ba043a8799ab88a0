//! How far a long command has come, on the standard error: one line that changes on a terminal, else a line now and then.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const ON_TERMINAL: Duration = Duration::from_millis(200);
const IN_LOG: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Progress {
    what: &'static str,
    total: Option<u64>,
    terminal: bool,
    started: Instant,
    /// When it was told last, and whether it ever was.
    told: Arc<Mutex<(Instant, bool)>>,
}

impl Progress {
    /// Of so many, where that is known.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        let (terminal, started) = (io::stderr().is_terminal(), Instant::now());
        Self { what, total, terminal, started, told: Arc::new(Mutex::new((started, false))) }
    }

    /// So many are done.
    pub(super) fn tell(&self, done: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.elapsed() < if self.terminal { ON_TERMINAL } else { IN_LOG } {
            return;
        }
        *told = (Instant::now(), true);
        let line = line(self.what, done, self.total, self.started.elapsed());
        // An error means that nobody reads it.
        let _ = match self.terminal {
            true => write!(io::stderr(), "\r{line}\x1b[K"),
            false => writeln!(io::stderr(), "{line}"),
        };
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if self.terminal && self.told.lock().unwrap_or_else(PoisonError::into_inner).1 {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

const BAR: u64 = 24;

fn line(what: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    match total.filter(|total| *total > 0) {
        // More may have come since it was counted.
        Some(total) => {
            let full = (done * BAR / total).min(BAR) as usize;
            let (bar, percent) = ("#".repeat(full) + &".".repeat(BAR as usize - full), (done * 100 / total).min(100));
            format!("[{bar}] {percent:>3} %  {what} {done} of {total}, {rate:.0} a second")
        }
        None => format!("{what} {done}, {rate:.0} a second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_never_more_than_all() {
        let second = Duration::from_secs(2);
        assert_eq!(
            line("exported", 50, Some(100), second),
            "[############............]  50 %  exported 50 of 100, 25 a second"
        );
        assert!(line("exported", 150, Some(100), second).starts_with("[########################] 100 %"));
        assert_eq!(line("verified", 7, None, second), "verified 7, 4 a second");
        assert_eq!(line("verified", 7, Some(0), second), "verified 7, 4 a second");
    }
}
