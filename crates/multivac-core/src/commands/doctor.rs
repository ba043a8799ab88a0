//! `doctor`: looks at everything that the programs depend on, and says what to do about what is not well.
//!
//! The servers are asked by their adapters (`examine.rs` in each), the settings here (`settings.rs`), all at once. Each has its
//! time, so that whatever hangs is told, with all else, within `OVERALL`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use tokio::time::timeout;

use super::{CommandError, settings, with_output, write_json};
use crate::adapters::findings::{Finding, Status};
use crate::adapters::redis::{self, RedisSettings};
use crate::adapters::{embedded, mongo};
use crate::process::passages;
use crate::runtime::config::ServerUrls;

pub use super::settings::Subject;

/// How long a backend may be examined in all. Its own limits are less; this is for what they cannot bound.
const OVERALL: Duration = Duration::from_secs(14);

/// How `doctor` ends where something is to be done: neither 1, with which every command fails, nor 2, with which the command
/// line is refused.
const WARNING: i32 = 3;
const ERROR: i32 = 4;

/// What `doctor` takes.
#[derive(Args, Clone, Copy)]
pub struct Doctor {
    /// Write JSON for scripts: an array of {"check", "status", "found", "advice"}, where the status is ok, warning, error or
    /// skipped, and the advice may be null.
    #[arg(long)]
    pub json: bool,
}

impl Doctor {
    /// Examines it, prints what was found, and returns the status to end with: 0, 3 for a warning, 4 for an error.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub async fn run(self, subject: Subject<'_>) -> Result<i32, CommandError> {
        let found = examine(&subject).await;
        with_output(async |out| if self.json { write_json(out, &found) } else { table(out, &found) }).await?;
        Ok(match found.iter().map(|finding| finding.status).max() {
            Some(Status::Error) => ERROR,
            Some(Status::Warning) => WARNING,
            _ => 0,
        })
    }
}

async fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let urls = subject.args.server_urls();
    let of_settings = settings::examine(subject, &urls);
    let of_backends = async {
        match (urls.as_ref(), subject.data_dir) {
            (Ok(Some(urls)), _) => servers(subject, urls).await,
            (Ok(None), Some(directory)) => in_time("embedded", embedded::examine(directory.to_owned())).await,
            // Told with the settings.
            (Ok(None), None) | (Err(_), _) => Vec::new(),
        }
    };
    let (mut found, backends) = tokio::join!(of_settings, of_backends);
    found.extend(backends);
    found
}

async fn servers(subject: &Subject<'_>, urls: &ServerUrls) -> Vec<Finding> {
    let settings = subject.queue.as_ref().map_or_else(|_| subject.args.queue_settings(), Clone::clone);
    let bounds = subject.has_index.then_some((settings.max_queued, settings.max_queued_bytes));
    let (mut found, store) = tokio::join!(
        // Boxed, since the compiler gives up on the layout of futures that lie so deep in each other.
        in_time(
            "redis.reachable",
            redis::examine(RedisSettings::new(urls, subject.args), settings, bounds).boxed_local()
        ),
        in_time("mongodb.reachable", mongo::examine(&urls.mongo, passages).boxed_local()),
    );
    found.extend(store);
    found
}

async fn in_time(check: &'static str, examined: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let late = |_| {
        let found = format!("out of reach after {} s", OVERALL.as_secs());
        vec![Finding::error(check, found, "it hangs in the middle of what it is asked")]
    };
    timeout(OVERALL, examined).await.unwrap_or_else(late)
}

/// The worst is told last as well, so that it stands where an operator looks.
fn table(out: &mut dyn Write, found: &[Finding]) -> Result<(), CommandError> {
    let width = found.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, status, found, advice } in found {
        writeln!(out, "{:<8}{check:<width$}  {found}", word(*status))?;
        if let Some(advice) = advice {
            writeln!(out, "{:<8}{:<width$}  → {advice}", "", "")?;
        }
    }
    let mut counts = BTreeMap::<Status, usize>::new();
    for finding in found {
        *counts.entry(finding.status).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(status, n)| format!("{n} {}", word(*status))).collect();
    Ok(writeln!(out, "\n{}", counts.join(", "))?)
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Skipped => "skipped",
        Status::Warning => "warning",
        Status::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_check_and_one_for_what_to_do() {
        let found = [
            Finding::ok("redis.version", "8.0.2"),
            Finding::warning("redis.eviction", "allkeys-lru", "set noeviction"),
            Finding::skipped("redis.keys", "cut off"),
        ];
        let mut out = Vec::new();
        table(&mut out, &found).expect("memory");
        let expected = "ok      redis.version   8.0.2\n\
                        warning redis.eviction  allkeys-lru\n                        → set noeviction\n\
                        skipped redis.keys      cut off\n\n1 ok, 1 skipped, 1 warning\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_told() {
        let found = in_time("redis.reachable", std::future::pending()).await;
        assert_eq!((found[0].check, found[0].status), ("redis.reachable", Status::Error));
    }
}
