//! Partitions: which job lies in which, how a batch is cut, and what all of them hold together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::RedisSettings;
use super::keys::Keys;
use super::replies::PartitionLedger;
use super::scripts::SCRIPT_MAX_JOBS;
use crate::datum::DatumId;
use crate::queue::{Lease, Ledger, QueueError, Submission};

/// How much text one accept script takes at most: Redis does nothing else meanwhile.
const ACCEPT_MAX_BYTES: usize = 8 << 20;

/// The partitions of a queue, by their numbers.
pub(super) struct Partitions {
    keys: Vec<Keys>,
    /// Counts the rounds over all partitions, so that each round begins with the next one and none starves.
    rounds: AtomicUsize,
}

impl Partitions {
    pub(super) fn new(redis: &RedisSettings) -> Result<Self, QueueError> {
        let namespace = &redis.namespace;
        // A second pair of braces would replace the partition's number in the choice of a Cluster's slot.
        if namespace.is_empty() || namespace.contains(['{', '}']) {
            return Err(QueueError::Misconfigured(format!(
                "the namespace {namespace:?} cannot be used: expected some text without braces"
            )));
        }
        if redis.partitions == 0 {
            return Err(QueueError::Misconfigured("0 partitions cannot hold a job: expected 1 or more".to_owned()));
        }
        let keys = (0..redis.partitions).map(|partition| Keys::new(namespace, partition)).collect();
        Ok(Self { keys, rounds: AtomicUsize::new(0) })
    }

    /// The keys of a partition that a lease names.
    pub(super) fn of_lease(&self, partition: u16) -> Result<&Keys, QueueError> {
        self.keys.get(usize::from(partition)).ok_or_else(|| {
            QueueError::Misconfigured(format!(
                "a lease of partition {partition} comes from a queue with more partitions"
            ))
        })
    }

    /// The keys of the first partition, which there always is.
    pub(super) fn first(&self) -> &Keys {
        &self.keys[0]
    }

    /// The keys of each, in the order of their numbers.
    pub(super) fn all(&self) -> &[Keys] {
        &self.keys
    }

    /// The keys of each, beginning with another one at each call.
    pub(super) fn in_rotation(&self) -> impl Iterator<Item = &Keys> {
        let start = self.rounds.fetch_add(1, Ordering::Relaxed) % self.keys.len();
        self.keys[start..].iter().chain(&self.keys[..start])
    }

    /// The part of a limit that each partition keeps.
    pub(super) fn share(&self, limit: u64) -> u64 {
        limit.div_ceil(self.keys.len() as u64)
    }

    /// Cuts a batch into what one accept script may take into one partition: the keys, and indexes into the batch.
    ///
    /// The same idempotency key falls into the same partition each time, and so does the same batch when it comes again,
    /// so that either is recognised. Jobs without a key stay together in their order; round-robin would scatter them.
    pub(super) fn assign(&self, submissions: &[Submission]) -> Vec<(&Keys, Vec<usize>)> {
        let Some(first) = submissions.first() else { return Vec::new() };
        let home = self.partition_of(spread(first.job.id));
        let mut by_partition = vec![Vec::new(); self.keys.len()];
        for (i, submission) in submissions.iter().enumerate() {
            let partition = match submission.idempotency_key {
                Some(key) => self.partition_of(u128::from_be_bytes(key.of_user) as u64),
                None => home,
            };
            by_partition[partition].push(i);
        }
        let parts = |(keys, indexes): (_, Vec<usize>)| {
            let parts = chunks(&indexes, |&i| submissions[i].job.datum.as_str().len());
            parts.into_iter().map(|part| (keys, part.to_vec())).collect::<Vec<_>>()
        };
        self.keys.iter().zip(by_partition).flat_map(parts).collect()
    }

    /// The partition of a number that is evenly distributed.
    fn partition_of(&self, spread: u64) -> usize {
        usize::try_from(spread % self.keys.len() as u64).expect("less than the number of partitions")
    }
}

/// A number from an id that is evenly distributed over ids.
fn spread(id: DatumId) -> u64 {
    let bytes = match id {
        DatumId::Uuid(uuid) => *uuid.as_bytes(),
        DatumId::Original(bytes) => {
            let mut wide = [0; 16];
            wide[4..].copy_from_slice(&bytes);
            wide
        }
    };
    // The last bytes are random in one kind of id and a counter in the other.
    u64::from(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]))
}

/// Cuts a batch: a part ends where the next item would be too much for one script. An item that is too large by itself
/// is a part of its own.
fn chunks<T>(batch: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, item) in batch.iter().enumerate() {
        if i > start && (i - start == SCRIPT_MAX_JOBS || bytes + size(item) > ACCEPT_MAX_BYTES) {
            parts.push(&batch[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += size(item);
    }
    if start < batch.len() {
        parts.push(&batch[start..]);
    }
    parts
}

/// Sorts leases, or what has one, by the partition that they belong to.
pub(super) fn by_partition<T>(items: &[T], lease: impl Fn(&T) -> &Lease) -> BTreeMap<u16, Vec<&T>> {
    let mut sorted: BTreeMap<u16, Vec<&T>> = BTreeMap::new();
    for item in items {
        sorted.entry(lease(item).token.partition).or_default().push(item);
    }
    sorted
}

/// The ledger of the queue. Each partition's ledger balances by itself and no job changes its partition, so the sum of
/// snapshots taken one after another balances too.
pub(super) fn total(ledgers: &[PartitionLedger]) -> Ledger {
    let sum = |count: fn(&PartitionLedger) -> i64| ledgers.iter().map(count).sum::<i64>();
    let (accepted, learned) = (sum(|part| part.accepted), sum(|part| part.learned));
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ledger {
        // `learned` of one partition may be negative, since partition 0 subtracts there when it records the retraction of
        // a datum that was learned in another. A negative sum means that Redis is younger than the store and has been
        // told of retractions alone; they count as accepted until the ledger is reconciled.
        accepted: count(accepted - learned.min(0)),
        queued: count(sum(|part| part.queued)),
        processing: count(sum(|part| part.processing)),
        learned: count(learned),
        retracted: count(sum(|part| part.retracted)),
        dead: count(sum(|part| part.dead)),
    }
}

#[cfg(test)]
#[path = "partitions_tests.rs"]
mod tests;
