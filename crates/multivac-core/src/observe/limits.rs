//! Bounds how often a warning or an error is written, since a fault may repeat it for every request or datum.
//!
//! Each place in the code that logs has a bucket of lines ([`BURST`]) that fills again at a line every [`INTERVAL`]. What is
//! left out is counted, and the count is in the next line from that place; or, where none comes, in a line of its own as soon as
//! anything else is logged, or at the end. Lines
//! below a warning are not bounded: nothing that faults repeat is logged there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};

/// Lines from one place at once.
const BURST: u32 = 20;

/// The time from one line to the next after those.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is left of each place's lines.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<Place, Bucket>>);

/// A file and a line of it.
type Place = String;

struct Bucket {
    lines: u32,
    filled_at: Instant,
    suppressed: u64,
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// Places from which nothing has come for a while, with how many of their lines were left out.
    pub(super) ended: Vec<(Place, u64)>,
    /// How many like it were left out before it; `None` where it is left out itself.
    pub(super) suppressed: Option<u64>,
}

impl Limits {
    /// Whether a line is written. `place` is where it is logged, unless that is where all of its kind are.
    pub(super) fn pass(&self, metadata: &'static Metadata<'static>, place: Option<String>) -> Pass {
        // Those of libraries that log by other means have no place.
        let is_bounded = *metadata.level() <= Level::WARN && metadata.file().is_some();
        let own = || format!("{}:{}", metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        let place = if is_bounded { place.unwrap_or_else(own) } else { String::new() };
        self.pass_at(Instant::now(), place, is_bounded)
    }

    /// What was left out and not told of yet.
    pub(super) fn drain(&self) -> Vec<(Place, u64)> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = buckets.iter_mut().map(|(place, bucket)| (place.clone(), std::mem::take(&mut bucket.suppressed)));
        counts.filter(|(_, suppressed)| *suppressed > 0).collect()
    }

    fn pass_at(&self, now: Instant, place: Place, is_bounded: bool) -> Pass {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        for (other, bucket) in buckets.iter_mut().filter(|(other, bucket)| **other != place && bucket.suppressed > 0) {
            // A line would be written by now.
            if now.saturating_duration_since(bucket.filled_at) >= 2 * INTERVAL {
                ended.push((other.clone(), std::mem::take(&mut bucket.suppressed)));
            }
        }
        if !is_bounded {
            return Pass { ended, suppressed: Some(0) };
        }
        let bucket = buckets.entry(place).or_insert(Bucket { lines: BURST, filled_at: now, suppressed: 0 });
        let intervals = now.saturating_duration_since(bucket.filled_at).as_secs() / INTERVAL.as_secs();
        let refill = u32::try_from(intervals).unwrap_or(BURST).min(BURST);
        if refill > 0 {
            bucket.lines = (bucket.lines + refill).min(BURST);
            bucket.filled_at = now;
        }
        let suppressed = if bucket.lines > 0 {
            bucket.lines -= 1;
            Some(std::mem::take(&mut bucket.suppressed))
        } else {
            bucket.suppressed += 1;
            None
        };
        Pass { ended, suppressed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "a.rs:1";
    const THERE: &str = "b.rs:1";

    #[test]
    fn ten_thousand_lines_in_a_minute_become_some_and_no_count_is_lost() {
        let (limits, start) = (Limits::default(), Instant::now());
        let (mut written, mut counted) = (0_u64, 0);
        for n in 0..10_000_u64 {
            let at = start + Duration::from_millis(6 * n);
            if let Some(suppressed) = limits.pass_at(at, HERE.to_owned(), true).suppressed {
                written += 1;
                counted += suppressed;
            }
        }
        assert!((20..=27).contains(&written), "{written}");
        // What was left out last comes in a line of its own, as soon as anything is logged.
        let later = start + Duration::from_secs(90);
        let Pass { ended, suppressed } = limits.pass_at(later, THERE.to_owned(), false);
        assert_eq!(suppressed, Some(0));
        assert_eq!(ended.len(), 1);
        assert_eq!(written + counted + ended[0].1, 10_000);
        assert_eq!(limits.pass_at(later, THERE.to_owned(), false).ended, []);
    }

    #[test]
    fn one_place_does_not_silence_another_nor_what_is_no_warning() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..100 {
            limits.pass_at(now, HERE.to_owned(), true);
        }
        assert_eq!(limits.pass_at(now, HERE.to_owned(), true).suppressed, None);
        assert_eq!(limits.pass_at(now, THERE.to_owned(), true).suppressed, Some(0));
        for _ in 0..100 {
            assert_eq!(limits.pass_at(now, THERE.to_owned(), false).suppressed, Some(0));
        }
    }
}
