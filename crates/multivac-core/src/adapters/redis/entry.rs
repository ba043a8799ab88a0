//! Entries of the streams: their names, the jobs and dead letters in them, and the leases of them.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use deadpool_redis::redis::{RedisWrite, ToRedisArgs};

use crate::datum::{Datum, Timestamp};
use crate::queue::{DeadLetter, Job, LeaseToken, QueueError};

/// The fields of an entry; `keys.rs` lists them.
pub(super) type Fields = HashMap<String, Vec<u8>>;

/// The id of an entry in its stream: a time in ms and a number within it. Entries lie in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    ms: u64,
    sequence: u64,
}

impl FromStr for EntryId {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        let parse = |text: &str| {
            let (ms, sequence) = text.split_once('-')?;
            Some(Self { ms: ms.parse().ok()?, sequence: sequence.parse().ok()? })
        };
        parse(text).ok_or_else(|| unreadable("the id of an entry"))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

impl ToRedisArgs for EntryId {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

/// The place of an entry among those of the same kind of all partitions: two partitions may have an entry of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) entry: EntryId,
    pub(super) partition: u16,
}

impl FromStr for Place {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        let parse = |text: &str| {
            let (entry, partition) = text.split_once('/')?;
            Some(Self { entry: entry.parse().ok()?, partition: partition.parse().ok()? })
        };
        parse(text).ok_or_else(|| QueueError::Misconfigured(format!("{text:?} is no place in this queue")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.entry, self.partition)
    }
}

/// One delivery of an entry to a consumer. It is what a lease is: the next delivery of the same entry is another lease,
/// even when the same consumer gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) entry: EntryId,
    /// How often the entry was delivered by then, with this time.
    pub(super) number: u32,
}

impl Delivery {
    /// From the texts in which a script tells of it.
    pub(super) fn read(entry: &[u8], number: &[u8]) -> Result<Self, QueueError> {
        let text = |value| std::str::from_utf8(value).map_err(|_| unreadable("a delivery"));
        Ok(Self { entry: text(entry)?.parse()?, number: text(number)?.parse().map_err(|_| unreadable("a delivery"))? })
    }

    pub(super) fn token(self, partition: u16) -> LeaseToken {
        LeaseToken { partition, entry: format!("{}/{}", self.entry, self.number) }
    }

    pub(super) fn from_token(token: &LeaseToken) -> Result<Self, QueueError> {
        let parse = |text: &str| {
            let (entry, number) = text.split_once('/')?;
            Some(Self { entry: entry.parse().ok()?, number: number.parse().ok()? })
        };
        parse(&token.entry)
            .ok_or_else(|| QueueError::Misconfigured(format!("{:?} is no lease of this queue", token.entry)))
    }
}

/// The fields of an entry that make a job, as they lie there; an empty trace is none.
pub(super) struct JobValues<'a> {
    pub(super) id: &'a [u8],
    pub(super) at: &'a [u8],
    pub(super) attempts: &'a [u8],
    pub(super) data: &'a [u8],
    pub(super) trace: &'a [u8],
}

impl JobValues<'_> {
    /// The job, and how many attempts at it were used up before the entry was made.
    ///
    /// One that cannot be read is logged and passed over. It is delivered again and again until somebody deletes it, since
    /// deleting what we do not understand could lose a datum.
    pub(super) fn read(&self, entry: EntryId) -> Option<(Job, u32)> {
        let text = |value| std::str::from_utf8(value).ok();
        let job = (|| {
            let job = Job {
                id: text(self.id)?.parse().ok()?,
                datum: Datum::accepted_before(text(self.data).filter(|text| !text.is_empty())?),
                received_at: Timestamp::from_millis(text(self.at)?.parse().ok()?),
                trace: text(self.trace).filter(|trace| !trace.is_empty()).map(str::to_owned),
            };
            Some((job, text(self.attempts)?.parse().ok()?))
        })();
        if job.is_none() {
            tracing::error!(%entry, "an entry of the stream holds no job that can be read; delete it by hand");
        }
        job
    }
}

pub(super) fn read_dead_letter(entry: EntryId, fields: &Fields) -> Option<DeadLetter> {
    let value = |name: &str| fields.get(name).map(Vec::as_slice).unwrap_or_default();
    let [id, at, attempts, data, trace] = ["id", "at", "attempts", "data", "trace"].map(value);
    let (job, attempts) = JobValues { id, at, attempts, data, trace }.read(entry)?;
    // The error is the consumer's text, and the only one here that need not be UTF-8.
    let error = String::from_utf8_lossy(fields.get("error")?).into_owned();
    let died_at = std::str::from_utf8(fields.get("died_at")?).ok()?.parse().ok()?;
    Some(DeadLetter { job, attempts, error, died_at: Timestamp::from_millis(died_at) })
}

pub(super) fn unreadable(what: &str) -> QueueError {
    QueueError::Misconfigured(format!("{what} in Redis cannot be read: do other programs use the same namespace?"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_ordered_by_number_and_not_by_text() {
        let ids: [EntryId; 3] = ["9-10", "10-2", "10-11"].map(|id| id.parse().unwrap());
        assert!(ids.is_sorted());
        assert_eq!(ids.map(|id| id.to_string()), ["9-10", "10-2", "10-11"]);
        for wrong in ["", "7", "-", "1-", "x-1", "1-2-3"] {
            assert!(wrong.parse::<EntryId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lease_reads_back_from_its_token() {
        let delivery = Delivery { entry: "1700000000000-3".parse().unwrap(), number: 2 };
        let token = delivery.token(4);
        assert_eq!((token.partition, token.entry.as_str()), (4, "1700000000000-3/2"));
        assert_eq!(Delivery::from_token(&token).unwrap(), delivery);
        for wrong in ["", "1-2", "1-2/", "1/2", "/2"] {
            let token = LeaseToken { partition: 0, entry: wrong.to_owned() };
            assert!(matches!(Delivery::from_token(&token), Err(QueueError::Misconfigured(_))), "{wrong}");
        }
    }

    #[test]
    fn a_dead_letter_is_read_and_what_is_none_is_passed_over() {
        let id = crate::datum::DatumId::generate();
        let fields = |without: &str| -> Fields {
            let all = [
                ("id", id.to_string().into_bytes()),
                ("at", b"1700000000000".to_vec()),
                ("attempts", b"5".to_vec()),
                ("data", b"a text".to_vec()),
                ("trace", b"00-a-b-01".to_vec()),
                ("error", b"not UTF-8: \xff".to_vec()),
                ("died_at", b"1700000000500".to_vec()),
            ];
            all.into_iter().filter(|(name, _)| *name != without).map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let entry = EntryId { ms: 1, sequence: 0 };
        let letter = read_dead_letter(entry, &fields("")).unwrap();
        assert_eq!((letter.job.id, letter.attempts, letter.job.datum.as_str()), (id, 5, "a text"));
        assert_eq!(letter.error, "not UTF-8: \u{fffd}");
        assert_eq!(letter.died_at.as_millis(), 1_700_000_000_500);
        assert_eq!(read_dead_letter(entry, &fields("trace")).unwrap().job.trace, None);
        for needed in ["id", "at", "attempts", "data", "error", "died_at"] {
            assert!(read_dead_letter(entry, &fields(needed)).is_none(), "{needed}");
        }
    }
}
