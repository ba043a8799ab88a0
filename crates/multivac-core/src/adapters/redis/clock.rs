//! Redis's clock, as its replies show it. A call that must not be executed once nobody waits for it any more carries from
//! when to when it may be executed by that clock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::RedisError;
use tokio::time::Instant;

use crate::queue::QueueError;

/// After so long Redis is asked for its time again: clocks drift apart, by less than [`MARGIN`] within it.
const READING_LIFETIME: Duration = Duration::from_secs(60);

/// How far before the call the clock may stand. One that is set back further must not make a call valid for longer.
const MARGIN: Duration = Duration::from_millis(500);

/// How often a call is sent that Redis refuses as too late: the first time may only show its clock, the second may meet one
/// that was set.
pub(super) const TRIES: usize = 3;

/// The error when Redis has refused each of them. It has done nothing.
pub(super) fn always_late() -> QueueError {
    let message = "Redis refuses as too late what was sent to it just now: does its clock jump?".to_owned();
    QueueError::Unavailable { message, source: None }
}

/// From when to when a call may be executed, in ms by Redis's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) earliest: i64,
    pub(super) latest: i64,
}

/// Redis refused a call outside its [`Window`], and did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    /// What its clock showed.
    pub(super) now_ms: i64,
}

impl Late {
    /// Reads what `late_reply` of `lua/common.lua` returned.
    pub(super) fn read(error: &RedisError) -> Option<Self> {
        let now = (error.code() == Some("LATE")).then(|| error.detail())??;
        Some(Self { now_ms: now.trim().parse().ok()? })
    }
}

/// The last reading of each partition's clock; in a Cluster each master has its own.
#[derive(Default)]
pub(super) struct Clocks(Mutex<HashMap<u16, Reading>>);

#[derive(Clone, Copy)]
struct Reading {
    /// When it came. The clock stood at `now_ms` at that time or before it, so what is computed from it is never too late.
    came: Instant,
    now_ms: i64,
}

impl Clocks {
    /// Within which a call that begins at `begun` and is waited for so long may be executed. Where the clock is not known, none:
    /// Redis refuses the call and shows its clock.
    pub(super) fn window(&self, partition: u16, begun: Instant, timeout: Duration) -> Window {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match readings.get(&partition) {
            Some(reading) if begun.saturating_duration_since(reading.came) < READING_LIFETIME => {
                let now = reading.now_ms.saturating_add(ms(begun.saturating_duration_since(reading.came)));
                Window { earliest: now.saturating_sub(ms(MARGIN)), latest: now.saturating_add(ms(timeout)) }
            }
            _ => Window { earliest: 0, latest: 0 },
        }
    }

    /// Keeps what a clock showed in a reply that `came` then.
    pub(super) fn set(&self, partition: u16, late: Late, came: Instant) {
        let reading = Reading { came, now_ms: late.now_ms };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, reading);
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_when_nobody_waits_any_more() {
        let clocks = Clocks::default();
        let (read, timeout) = (Instant::now(), Duration::from_secs(3));
        assert_eq!(clocks.window(0, read, timeout), Window { earliest: 0, latest: 0 });
        clocks.set(0, Late { now_ms: 1_000_000 }, read);
        let begun = read + Duration::from_secs(2);
        assert_eq!(clocks.window(0, begun, timeout), Window { earliest: 1_001_500, latest: 1_005_000 });
        assert_eq!(clocks.window(1, begun, timeout).latest, 0, "each partition may have its own clock");
        assert_eq!(clocks.window(0, read + READING_LIFETIME, timeout).latest, 0, "clocks drift apart");
    }
}
