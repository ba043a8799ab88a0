//! What replicas have announced, and since when each has announced nothing new, by this process's clock.
//!
//! Their `seen_at` is by the server's clock, which may be set forwards or back, and differs from that of the next primary.
//! So it only tells that an announcement is another one. Nor does a document that vanishes tell that a replica has ended:
//! the server deletes old ones by that clock as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mongodb::bson::DateTime;
use serde::Deserialize;

use crate::store::{Position, REPLICA_ALIVE, REPLICA_SILENT, SeenReplica};

/// How long a replica that fell silent is listed: for as long as the server keeps its document.
const LISTED: Duration = Duration::from_secs(60);

/// A document of the collection `replicas`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Replica {
    #[serde(rename = "_id")]
    name: String,
    position: i64,
    seen_at: DateTime,
    #[serde(default)]
    ended: bool,
    /// Not there up to 0.1.0.
    #[serde(default)]
    version: Option<String>,
}

/// The replicas that may still answer, as far as this process has looked.
#[derive(Default)]
pub(super) struct Sightings(HashMap<String, Sighting>);

struct Sighting {
    announced: (i64, DateTime),
    version: Option<String>,
    /// When this was known to be announced: not before it was.
    since: Instant,
}

impl Sightings {
    /// Takes all documents as a read found them that was begun at `asked` and ended at `replied`. The replicas that may
    /// still answer, with their positions.
    pub(super) fn take(&mut self, found: Vec<Replica>, asked: Instant, replied: Instant) -> Vec<(String, Position)> {
        for Replica { name, position, seen_at, ended, version } in found {
            let announced = (position, seen_at);
            if ended {
                self.0.remove(&name);
            } else if self.0.get(&name).is_none_or(|sighting| sighting.announced != announced) {
                self.0.insert(name, Sighting { announced, version, since: replied });
            }
        }
        // What is silent and still found would begin anew if it was forgotten; the number of documents bounds them, and
        // those that have vanished are forgotten at some time after that.
        let silent = |sighting: &Sighting| asked.saturating_duration_since(sighting.since) > REPLICA_SILENT;
        self.0.retain(|_, sighting| asked.saturating_duration_since(sighting.since) < 100 * REPLICA_SILENT);
        let waited_for = self.0.iter().filter(|(_, sighting)| !silent(sighting));
        waited_for.map(|(name, sighting)| (name.clone(), Position(sighting.announced.0.cast_unsigned()))).collect()
    }

    /// Those that were announced within [`LISTED`] of a moment.
    pub(super) fn list(&self, now: Instant) -> Vec<SeenReplica> {
        let silent_for = |sighting: &Sighting| now.saturating_duration_since(sighting.since);
        let listed = self.0.iter().filter(|(_, sighting)| silent_for(sighting) <= LISTED);
        let mut listed: Vec<SeenReplica> = listed
            .map(|(name, sighting)| SeenReplica {
                name: name.clone(),
                version: sighting.version.clone(),
                is_alive: silent_for(sighting) <= REPLICA_ALIVE,
            })
            .collect();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(position: i64, seen_at: i64) -> Replica {
        Replica {
            name: "one".to_owned(),
            position,
            seen_at: DateTime::from_millis(seen_at),
            ended: false,
            version: None,
        }
    }

    /// The positions that are waited for, when these documents were found at a time in milliseconds.
    fn take(sightings: &mut Sightings, start: Instant, at: u64, found: Vec<Replica>) -> Vec<u64> {
        let at = start + Duration::from_millis(at);
        sightings.take(found, at, at).into_iter().map(|(_, position)| position.0).collect()
    }

    #[test]
    fn a_replica_is_waited_for_until_it_is_silent_whatever_the_servers_clock_says() {
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        // In 1970 by the server's clock, then in the far future, then back.
        assert_eq!(take(&mut sightings, start, 0, vec![replica(1, 0)]), [1]);
        assert_eq!(take(&mut sightings, start, 5_000, vec![replica(2, i64::MAX)]), [2]);
        assert_eq!(take(&mut sightings, start, 10_000, vec![replica(2, 7)]), [2]);
        assert_eq!(take(&mut sightings, start, 15_999, vec![replica(2, 7)]), [2]);
        assert_eq!(take(&mut sightings, start, 16_001, vec![replica(2, 7)]), [0; 0]);
        assert_eq!(take(&mut sightings, start, 99_000, vec![replica(2, 7)]), [0; 0]);
        assert_eq!(take(&mut sightings, start, 99_001, vec![replica(2, 8)]), [2], "it is back");
    }

    #[test]
    fn a_replica_is_listed_for_a_minute_after_its_last_word_and_alive_for_five_seconds() {
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        let versioned = Replica { name: "a".to_owned(), version: Some("1.2.3".to_owned()), ..replica(1, 1) };
        take(&mut sightings, start, 0, vec![replica(1, 0), versioned.clone()]);
        take(&mut sightings, start, 55_000, vec![replica(1, 0), Replica { position: 2, ..versioned.clone() }]);
        let listed = |sightings: &Sightings, at| {
            let listed = sightings.list(start + Duration::from_millis(at)).into_iter();
            listed.map(|seen| (seen.name, seen.version, seen.is_alive)).collect::<Vec<_>>()
        };
        let a = |is_alive| ("a".to_owned(), Some("1.2.3".to_owned()), is_alive);
        assert_eq!(listed(&sightings, 60_000), [a(true), ("one".to_owned(), None, false)]);
        assert_eq!(listed(&sightings, 60_001), [a(false)]);
        take(&mut sightings, start, 60_002, vec![Replica { ended: true, ..versioned }]);
        assert_eq!(listed(&sightings, 60_002), []);
    }

    #[test]
    fn a_document_that_vanishes_says_nothing_and_one_that_says_so_does() {
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        assert_eq!(take(&mut sightings, start, 0, vec![replica(1, 0)]), [1]);
        assert_eq!(take(&mut sightings, start, 5_000, vec![]), [1]);
        assert_eq!(take(&mut sightings, start, 7_000, vec![]), [0; 0]);
        assert_eq!(take(&mut sightings, start, 8_000, vec![replica(1, 1)]), [1]);
        let ended = Replica { ended: true, ..replica(1, 1) };
        assert_eq!(take(&mut sightings, start, 8_001, vec![ended]), [0; 0]);
    }

    #[test]
    fn what_was_found_while_another_read_found_more_is_no_silence() {
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        sightings.take(vec![replica(1, 1)], at(0), at(0));
        // Begun first, ended last.
        sightings.take(vec![replica(2, 2)], at(6_900), at(7_000));
        assert_eq!(sightings.take(vec![replica(1, 1)], at(6_800), at(7_100)).len(), 1);
    }
}
