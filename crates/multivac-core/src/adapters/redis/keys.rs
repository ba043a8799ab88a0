//! Every key in Redis: its name, its type, its lifetime.
//!
//! | key | type | what | lifetime |
//! | --- | --- | --- | --- |
//! | `{ns}:{p}:stream` | stream | the unfinished jobs; its one group is `workers` | an entry, as long as its job is unfinished; the empty key stays |
//! | `{ns}:{p}:jobs` | hash | an unfinished job's id: `q` (on the stream), `r` (the same, and retracted) or `d` (dead), then its entry there | a field, as long as the job is unfinished |
//! | `{ns}:{p}:ledger` | hash | the counts `accepted`, `learned`, `retracted` (the others are lengths); `bytes`, the text of unfinished jobs; `drained` and `drained_bytes`, the jobs that have left the stream and their text; `doubtful`, jobs that were found again; `clock`, the time by Redis's clock (ms) when a lease last began | for good |
//! | `{ns}:{p}:dead` | stream | the dead letters | until retried or retracted |
//! | `{ns}:{p}:wakeup` | list | at most one element, the wakeup of one consumer that waits | until the next consumer waits |
//! | `{ns}:{p}:idem:<hex>` | string | the id that an idempotency key stands for, a space, and a digest of its text (up to 0.1.0 the id alone); a space at the end when another call has reported the id as accepted | 24 hours |
//! | `{ns}:{p}:accepted:<id>` | string | the reply to the accepting call whose first job this is, should the call come again | 30 seconds |
//! | `{ns}:{p}:retracted:<id>` | string | set when a retraction is in the ledger, should the call come again; to the entry that a dead letter had | 24 hours |
//! | `{ns}:{p}:retried:<id>` | string | the entry that a dead letter had before it was retried, where a list may go on | 5 minutes |
//!
//! `{ns}` is the namespace. The partition's number `p` stands in literal braces, so that in a Redis Cluster all keys of
//! a partition lie in one slot, and a script can change them together.
//!
//! An entry of the stream has the fields `id`, `at` (when it was accepted, in ms), `attempts` (used up before this
//! entry was made), `data`, and `trace` where there is one, in this order; a dead letter has `error` and `died_at` (ms)
//! after them.

use crate::datum::DatumId;

/// The name of the one consumer group.
pub(super) const GROUP: &str = "workers";

/// The keys of one partition.
pub(super) struct Keys {
    partition: u16,
    prefix: String,
    /// In the order in which the scripts expect them; see `lua/common.lua`.
    of_partition: [String; 5],
}

impl Keys {
    pub(super) fn new(namespace: &str, partition: u16) -> Self {
        let prefix = format!("{namespace}:{{{partition}}}");
        let of_partition = ["stream", "jobs", "ledger", "dead", "wakeup"].map(|name| format!("{prefix}:{name}"));
        Self { partition, prefix, of_partition }
    }

    /// The partition's number.
    pub(super) fn partition(&self) -> u16 {
        self.partition
    }

    /// The first keys of every script.
    pub(super) fn of_partition(&self) -> &[String] {
        &self.of_partition
    }

    pub(super) fn stream(&self) -> &str {
        &self.of_partition[0]
    }

    pub(super) fn jobs(&self) -> &str {
        &self.of_partition[1]
    }

    pub(super) fn dead(&self) -> &str {
        &self.of_partition[3]
    }

    pub(super) fn wakeup(&self) -> &str {
        &self.of_partition[4]
    }

    /// Of [`of_user` or `of_anyone`](crate::queue::IdempotencyKey).
    pub(super) fn idempotency(&self, digest: [u8; 16]) -> String {
        format!("{}:idem:{:032x}", self.prefix, u128::from_be_bytes(digest))
    }

    pub(super) fn accepted(&self, first: DatumId) -> String {
        format!("{}:accepted:{first}", self.prefix)
    }

    pub(super) fn retracted(&self, id: DatumId) -> String {
        format!("{}:retracted:{id}", self.prefix)
    }

    pub(super) fn retried(&self, id: DatumId) -> String {
        format!("{}:retried:{id}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_partition_share_one_hash_tag() {
        let keys = Keys::new("multivac", 3);
        assert_eq!(keys.stream(), "multivac:{3}:stream");
        assert_eq!(keys.dead(), "multivac:{3}:dead");
        assert_eq!(keys.wakeup(), "multivac:{3}:wakeup");
        assert_eq!(keys.idempotency([1; 16]), format!("multivac:{{3}}:idem:{}", "01".repeat(16)));
    }
}
