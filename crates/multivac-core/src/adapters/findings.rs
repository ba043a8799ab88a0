//! What was found when the system was examined (`doctor`): one [`Finding`] for each thing that is looked at, with what to do.
//!
//! Each adapter has an `examine.rs` that asks its backend. It changes nothing there that is not undone at once, ends within
//! [`LIMIT`] for reaching the backend and as much for all else, and puts no secret and no text that was fed into a finding.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::datum::Timestamp;
use crate::queue::{Ledger, Partition};
use crate::store::Disk;

/// How long reaching a backend may take, and then all checks of it together.
pub const LIMIT: Duration = Duration::from_secs(6);

/// How long DNS may take, and then connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// What differs by less is no difference: leases and announcements are seconds long.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// After how long a datum that waits is told of, and when it is an alarm (as for the alert `Stuck`).
const OLD: Duration = Duration::from_secs(60);
const STUCK: Duration = Duration::from_secs(300);

/// How bad a finding is; the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It could not be looked at, for the reason that was found; whatever is the cause is a finding of its own.
    Skipped,
    /// Something may go wrong, or has and will pass.
    Warning,
    /// Something does not work, or loses data.
    Error,
}

/// What was found; its fields are those of `doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `redis.eviction`.
    pub check: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What is so.
    pub found: String,
    /// What to do about it, where there is something to do.
    pub advice: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, found: found.into(), advice: None }
    }

    /// It could not be looked at.
    pub fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, status: Status::Skipped, found: why.into(), advice: None }
    }

    /// Something may go wrong.
    pub fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Status::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    /// Something does not work.
    pub fn error(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Status::Error, found: found.into(), advice: Some(advice.into()) }
    }

    /// A backend that replies to others did not reply to this.
    pub(super) fn failed(check: &'static str, error: &impl Display) -> Self {
        Self::error(check, error.to_string(), "see the log of that server; then look again")
    }
}

/// The finding of a check, if it comes within [`LIMIT`].
pub async fn in_time(check: &'static str, finding: impl Future<Output = Finding>) -> Finding {
    let late = |_| {
        let found = format!("out of reach after {} s", LIMIT.as_secs());
        Finding::error(check, found, "something hangs: the network to it, the server, or its disk")
    };
    timeout(LIMIT, finding).await.unwrap_or_else(late)
}

/// Connects to a port, to tell why a server is out of reach.
pub(super) async fn connect(host: &str, port: u16) -> Result<SocketAddr, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let late = |_| format!("no reply within {} s", CONNECT_LIMIT.as_secs());
    let found = timeout(CONNECT_LIMIT, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(late).and_then(|found| found.map_err(|error| error.to_string()));
    let addresses: Vec<SocketAddr> = found.map_err(|error| format!("DNS does not know {host}: {error}"))?.collect();
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(&addresses[..])).await.map_err(late);
    let connected = connected.and_then(|connected| connected.map_err(|error| error.to_string()));
    let peer = connected.map_err(|error| format!("no connection to {host}:{port}: {error}"))?;
    peer.peer_addr().map_err(|error| error.to_string())
}

/// Whether a port of a server that no backend is can be connected to, such as a collector's.
///
/// # Errors
/// Says why not.
pub async fn is_reachable(host: &str, port: u16) -> Result<(), String> {
    connect(host, port).await.map(drop)
}

/// Compares a server's clock with ours, which showed `before` when it was asked and `after` when it replied.
pub(super) fn clock(check: &'static str, [before, server, after]: [i64; 3]) -> Finding {
    let ahead = if server > after { server - after } else { (server - before).min(0) };
    let by = humantime::format_duration(Duration::from_millis(ahead.unsigned_abs()));
    if Duration::from_millis(ahead.unsigned_abs()) <= CLOCK_TOLERANCE {
        return Finding::ok(check, format!("within {} s of ours", CLOCK_TOLERANCE.as_secs()));
    }
    let found = format!("{by} {} ours", if ahead > 0 { "ahead of" } else { "behind" });
    Finding::warning(check, found, "set the clocks of both machines by NTP (`timedatectl` shows which one is not)")
}

/// The time by our clock, in ms.
pub(super) fn now_ms() -> i64 {
    Timestamp::now().as_millis()
}

/// The room on a disk, or why it is not known.
pub fn disk(check: &'static str, room: io::Result<Disk>, of: &str) -> Finding {
    let Disk { free_bytes: free, size_bytes: size } = match room {
        Ok(room) => room,
        Err(error) => return Finding::skipped(check, format!("the room of {of} cannot be read: {error}")),
    };
    let found = format!("{} of {} free on the disk of {of}", bytesize::ByteSize(free), bytesize::ByteSize(size));
    let advice = format!("make room on the disk of {of}, or move it to a larger one");
    // A share alone would find fault with large disks that have room for years.
    match free {
        _ if free < size / 50 && free < 1 << 30 => Finding::error(check, found, advice),
        _ if free < size / 10 && free < 10 << 30 => Finding::warning(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

/// The checks of what the queue holds, whichever it is.
pub(super) const QUEUE_CHECKS: [&str; 3] = ["ledger", "dead-letters", "oldest"];

/// What the queue holds.
pub(super) fn queue(ledger: &Ledger, partitions: &[Partition]) -> Vec<Finding> {
    let Ledger { accepted, queued, processing, learned, retracted, dead } = *ledger;
    let [of_ledger, of_dead, of_oldest] = QUEUE_CHECKS;
    let sum = format!(
        "accepted {accepted}, queued {queued}, processing {processing}, learned {learned}, retracted {retracted}, dead {dead}"
    );
    let balance = if ledger.balances() {
        Finding::ok(of_ledger, sum)
    } else {
        let advice = "somebody changed the queue's keys or rows, or this is a bug: keep a copy of them, and report it";
        Finding::error(of_ledger, format!("accepted is not the sum of the others: {sum}"), advice)
    };
    let dead = match dead {
        0 => Finding::ok(of_dead, "none"),
        n => {
            Finding::warning(of_dead, n.to_string(), "`dead list` shows their errors; `dead retry` or `dead drop` them")
        }
    };
    let oldest = partitions.iter().filter_map(|partition| partition.oldest).min();
    let oldest = match oldest.map(|at| Duration::from_secs(Timestamp::now().since(at).as_secs())) {
        None => Finding::ok(of_oldest, "nothing waits"),
        Some(age) => {
            let found = format!("waits since {}", humantime::format_duration(age));
            let advice = "are there workers, and can they store? See their logs and /readyz; more of them learn faster";
            match age {
                _ if age > STUCK => Finding::error(of_oldest, found, advice),
                _ if age > OLD => Finding::warning(of_oldest, found, advice),
                _ => Finding::ok(of_oldest, found),
            }
        }
    };
    vec![balance, dead, oldest]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(finding: &Finding) -> Status {
        finding.status
    }

    #[test]
    fn a_clock_that_showed_a_time_between_asking_and_the_reply_may_be_right() {
        let clock = |server| clock("clock", [10_000, server, 14_000]);
        for right in [10_000, 12_000, 14_000, 9_001, 14_999] {
            assert_eq!(status(&clock(right)), Status::Ok, "{right}");
        }
        assert_eq!(clock(16_000).found, "2s ahead of ours");
        assert_eq!(clock(7_000).found, "3s behind ours");
        assert_eq!(status(&clock(7_000)), Status::Warning);
    }

    #[test]
    fn a_disk_is_nearly_full_by_its_share_and_by_what_is_free() {
        let disk = |free: u64, size: u64| {
            status(&disk("disk", Ok(Disk { free_bytes: free << 20, size_bytes: size << 20 }), "x"))
        };
        assert_eq!(disk(50_000, 100_000), Status::Ok);
        assert_eq!(disk(20_000, 1_000_000), Status::Ok, "20 GiB of a large disk");
        assert_eq!(disk(5_000, 100_000), Status::Warning);
        assert_eq!(disk(100, 100_000), Status::Error);
        assert_eq!(disk(0, 16), Status::Error);
    }

    #[test]
    fn what_the_queue_holds_is_told_by_its_counts_and_its_age() {
        let ledger = Ledger { accepted: 3, queued: 1, learned: 1, dead: 1, ..Ledger::default() };
        let oldest = Timestamp::from_millis(now_ms() - 90_000);
        let partition = Partition { oldest: Some(oldest), ..Partition::default() };
        let found: Vec<Status> = queue(&ledger, &[partition]).iter().map(status).collect();
        assert_eq!(found, [Status::Ok, Status::Warning, Status::Warning]);
        let ledger = Ledger { accepted: 4, ..ledger };
        let oldest = Partition { oldest: Some(Timestamp::from_millis(0)), ..partition };
        let found: Vec<Status> = queue(&ledger, &[partition, oldest]).iter().map(status).collect();
        assert_eq!(found, [Status::Error, Status::Warning, Status::Error]);
        let found: Vec<Status> = queue(&Ledger::default(), &[Partition::default()]).iter().map(status).collect();
        assert_eq!(found, [Status::Ok; 3]);
    }
}
