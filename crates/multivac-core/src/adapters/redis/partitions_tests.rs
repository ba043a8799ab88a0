#![allow(clippy::unwrap_used)]

use super::*;
use crate::datum::{Datum, Timestamp};
use crate::queue::{IdempotencyKey, Job};

fn partitions(namespace: &str, partitions: u16) -> Result<Partitions, QueueError> {
    Partitions::new(&RedisSettings { urls: Vec::new(), ca: None, namespace: namespace.to_owned(), partitions })
}

fn submission(key: Option<u8>) -> Submission {
    let datum = Datum::accepted_before("a text");
    let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::from_millis(0), trace: None };
    Submission { job, idempotency_key: key.map(|key| IdempotencyKey::anyones([key; 16])) }
}

#[test]
fn a_batch_is_cut_by_jobs_and_by_bytes_and_nothing_is_left_out() {
    let small = vec![1; 2_500];
    assert_eq!(chunks(&small, |&size| size).into_iter().map(<[_]>::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    let large = vec![3 << 20; 7];
    assert_eq!(chunks(&large, |&size| size).into_iter().map(<[_]>::len).collect::<Vec<_>>(), [2, 2, 2, 1]);
    let too_large = vec![9 << 20; 2];
    assert_eq!(chunks(&too_large, |&size| size).into_iter().map(<[_]>::len).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_namespace_with_braces_and_no_partitions_are_refused() {
    for (namespace, count) in [("a{b}", 1), ("", 1), ("multivac", 0)] {
        let refused = partitions(namespace, count);
        assert!(matches!(refused, Err(QueueError::Misconfigured(_))), "{namespace} {count}");
    }
}

#[test]
fn a_key_falls_into_the_same_partition_each_time_and_jobs_without_one_stay_together() {
    let partitions = partitions("multivac", 7).unwrap();
    let submissions: Vec<_> = (0..50).map(|n| submission((n % 5 > 1).then_some(n % 5))).collect();
    let mut seen = vec![0; submissions.len()];
    let mut partition_of_key = BTreeMap::new();
    let mut homes = std::collections::BTreeSet::new();
    for (keys, indexes) in partitions.assign(&submissions) {
        assert!(indexes.is_sorted());
        for i in indexes {
            seen[i] += 1;
            match submissions[i].idempotency_key {
                Some(key) => {
                    assert_eq!(*partition_of_key.entry(key.of_user).or_insert(keys.partition()), keys.partition());
                }
                None => drop(homes.insert(keys.partition())),
            }
        }
    }
    assert_eq!(seen, vec![1; submissions.len()]);
    assert_eq!(homes.len(), 1);
}

#[test]
fn a_key_of_a_user_lies_in_the_partition_where_it_lay_before_keys_had_users() {
    let partitions = partitions("multivac", 7).unwrap();
    let partition_of = |user| {
        let idempotency_key = Some(IdempotencyKey::new(user, "a key", None));
        partitions.assign(&[Submission { idempotency_key, ..submission(None) }])[0].0.partition()
    };
    for user in [b"one".as_slice(), b"two", b"three"] {
        assert_eq!(partition_of(Some(user)), partition_of(None));
    }
}

#[test]
fn each_round_begins_with_the_next_partition() {
    let partitions = partitions("multivac", 3).unwrap();
    let round = || partitions.in_rotation().map(Keys::partition).collect::<Vec<_>>();
    assert_eq!([round(), round(), round(), round()], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
}

#[test]
fn the_ledger_of_a_redis_that_knows_of_retractions_alone_balances() {
    let retracted = PartitionLedger { learned: -2, retracted: 2, ..PartitionLedger::default() };
    let ledger = total(&[retracted, PartitionLedger::default()]);
    assert_eq!(ledger, Ledger { accepted: 2, retracted: 2, ..Ledger::default() });
    let other = PartitionLedger { accepted: 5, learned: 4, queued: 1, ..PartitionLedger::default() };
    let ledger = total(&[retracted, other]);
    assert_eq!(ledger, Ledger { accepted: 5, learned: 2, retracted: 2, queued: 1, ..Ledger::default() });
    assert!(ledger.balances());
}
