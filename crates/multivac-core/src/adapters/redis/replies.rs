//! What the scripts in `lua/` reply, as types. The head of each script says what its codes mean.

use super::entry::{Delivery, JobValues, unreadable};
use super::packed;
use crate::datum::{DatumId, Timestamp};
use crate::queue::{Job, JobState, Partition, QueueError};

/// What `accept.lua` did with one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptReply {
    /// It is on the stream.
    Accepted,
    /// The partition holds as much as it may.
    Full,
    /// This very call accepted it before, and it was rolled back since.
    RolledBack,
    /// Its idempotency key stands for this datum.
    AcceptedBefore(DatumId),
    /// Its idempotency key stands for another text.
    KeyOfOtherText,
}

impl AcceptReply {
    pub(super) fn parse_all(replies: &str) -> Result<Vec<Self>, QueueError> {
        let parse = |reply: &str| match reply {
            "+" => Ok(Self::Accepted),
            "-" => Ok(Self::Full),
            "~" => Ok(Self::RolledBack),
            "#" => Ok(Self::KeyOfOtherText),
            id => id.parse().map(Self::AcceptedBefore).map_err(|_| unreadable("an idempotency key's id")),
        };
        replies.split(' ').map(parse).collect()
    }
}

/// What `rollback.lua` did with one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RollbackReply {
    /// It is off the stream, or never was on it.
    RolledBack,
    /// A worker has stored it.
    Finished,
    /// It stays: a worker has leased it, it is dead, or another call has reported it as accepted.
    Kept,
    /// This Redis knows neither the job nor the call that accepted it, as after a failover.
    Unknown,
}

impl RollbackReply {
    pub(super) fn parse_all(replies: &str) -> Result<Vec<Self>, QueueError> {
        let parse = |reply: &str| match reply {
            "~" | "-" => Ok(Self::RolledBack),
            "+" => Ok(Self::Finished),
            "?" => Ok(Self::Kept),
            "0" => Ok(Self::Unknown),
            _ => Err(unreadable("what is kept of an accepting call")),
        };
        replies.split(' ').map(parse).collect()
    }
}

/// Which replicas may hold what is written, as `replicas.lua` found them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replicas {
    /// Another one after a failover or a restart.
    history: String,
    /// How many are connected, those that still load their first copy included.
    pub(super) connected: i64,
    /// How often one was connected anew.
    attached: i64,
    /// Whether the accepting call had been executed by then.
    pub(super) known_before: bool,
}

impl Replicas {
    /// `None` where Redis does not say it.
    pub(super) fn parse(reply: &[String]) -> Option<Self> {
        let [history, connected, attached, known_before] = reply else { return None };
        Some(Self {
            history: history.clone(),
            connected: connected.parse().ok()?,
            attached: attached.parse().ok()?,
            known_before: known_before != "0",
        })
    }

    /// Whether no other replica can have got what was written between the two.
    pub(super) fn no_others_until(&self, later: &Self) -> bool {
        self.history == later.history && self.attached == later.attached
    }
}

/// What `repair.lua` did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Repaired {
    /// Jobs that are nowhere any more.
    pub(super) lost: u64,
    /// Jobs of which only the entry was left.
    pub(super) found: u64,
}

/// What `lease.lua` leased.
pub(super) struct LeaseReply {
    /// Whether more jobs may be waiting in the partition.
    pub(super) more_waiting: bool,
    /// How many jobs may still join the batch, which is less than was asked when one of it has few attempts left.
    pub(super) remaining: usize,
    /// How many of those leased had a lease that ran out.
    pub(super) ran_out: u64,
    /// The jobs, packed.
    leased: Vec<u8>,
}

impl LeaseReply {
    pub(super) fn new((more_waiting, remaining, ran_out, leased): (bool, usize, u64, Vec<u8>)) -> Self {
        Self { more_waiting, remaining, ran_out, leased }
    }

    /// The jobs, each as delivered to us, with the attempts that were used up before its entry was made. Of entries that hold no job
    /// nothing comes.
    pub(super) fn leased(&self) -> Result<impl Iterator<Item = (Delivery, Job, u32)>, QueueError> {
        let values = packed::read(&self.leased).filter(|values| values.len() % LEASED_VALUES == 0);
        let values = values.ok_or_else(|| unreadable("what was leased"))?;
        let deliveries: Vec<Delivery> = values
            .chunks_exact(LEASED_VALUES)
            .map(|values| Delivery::read(values[0], values[1]))
            .collect::<Result<_, _>>()?;
        Ok(deliveries.into_iter().enumerate().filter_map(move |(n, delivery)| {
            let values = &values[n * LEASED_VALUES..];
            let (job, attempts) =
                JobValues { id: values[2], at: values[3], attempts: values[4], data: values[5], trace: values[6] }
                    .read(delivery.entry)?;
            Some((delivery, job, attempts))
        }))
    }
}

/// What `lease.lua` tells of each job.
const LEASED_VALUES: usize = 7;

/// One partition's ledger, in one snapshot. `learned` may be negative; see [`total`](super::partitions::total).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PartitionLedger {
    pub(super) accepted: i64,
    pub(super) queued: i64,
    pub(super) processing: i64,
    pub(super) learned: i64,
    pub(super) retracted: i64,
    pub(super) dead: i64,
}

impl PartitionLedger {
    /// From the counts in the order in which the scripts give them.
    pub(super) fn from_counts([accepted, queued, processing, learned, retracted, dead]: [i64; 6]) -> Self {
        Self { accepted, queued, processing, learned, retracted, dead }
    }

    pub(super) fn counts(&self) -> [i64; 6] {
        [self.accepted, self.queued, self.processing, self.learned, self.retracted, self.dead]
    }
}

/// Reads what `job_state.lua` returned.
pub(super) fn job_state(state: &str) -> Result<JobState, QueueError> {
    match state {
        "queued" => Ok(JobState::Queued),
        "processing" => Ok(JobState::Processing),
        "dead" => Ok(JobState::Dead),
        _ => Err(unreadable("the state of a job")),
    }
}

/// Reads what `partition.lua` returned.
pub(super) fn partition([queued, processing, dead, size_bytes, oldest, drained, drained_bytes]: [i64; 7]) -> Partition {
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Partition {
        queued: count(queued),
        processing: count(processing),
        dead: count(dead),
        size_bytes: count(size_bytes),
        oldest: (oldest >= 0).then(|| Timestamp::from_millis(oldest)),
        drained: count(drained),
        drained_bytes: count(drained_bytes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_replies_are_read_and_others_are_refused() {
        let id = DatumId::generate();
        let replies = format!("+ - ~ # {id}");
        let expected = [
            AcceptReply::Accepted,
            AcceptReply::Full,
            AcceptReply::RolledBack,
            AcceptReply::KeyOfOtherText,
            AcceptReply::AcceptedBefore(id),
        ];
        assert_eq!(AcceptReply::parse_all(&replies).unwrap(), expected);
        assert!(matches!(AcceptReply::parse_all("x"), Err(QueueError::Misconfigured(_))));
        for (code, expected) in [
            ("~", RollbackReply::RolledBack),
            ("-", RollbackReply::RolledBack),
            ("+", RollbackReply::Finished),
            ("?", RollbackReply::Kept),
            ("0", RollbackReply::Unknown),
        ] {
            assert_eq!(RollbackReply::parse_all(code).unwrap(), [expected]);
        }
        assert!(matches!(RollbackReply::parse_all(""), Err(QueueError::Misconfigured(_))));
    }
}
