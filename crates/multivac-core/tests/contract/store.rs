//! What every `Store` owes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::{join, join_all};
use multivac_core::datum::{DatumId, Timestamp};
use multivac_core::store::{
    BackupKind, Change, Changes, Position, Put, Retraction, Store, StoreCounts, StoreEntry, StoredDatum, Tombstone,
};
use multivac_testkit::sample::stored_datum as datum;

use crate::store_backends;

/// Expands all cases for one backend; a case that is left out is dead code, and does not build.
macro_rules! contract {
    ($backend:ident) => {
        contract! { $backend:
            a_datum_comes_back_byte_for_byte,
            putting_twice_is_putting_once,
            a_batch_says_what_became_of_each,
            an_empty_batch_is_nothing,
            many_at_once_put_the_same_datum_once,
            a_retracted_datum_leaves_a_tombstone,
            a_datum_retracted_before_it_is_put_never_comes,
            retracting_wins_over_putting_at_the_same_moment,
            what_was_never_put_is_not_there,
            a_scan_gives_all_live_data_and_only_them,
            a_scan_in_parts_gives_each_once,
            a_scan_and_a_follow_miss_nothing_beside_a_writer,
            a_follower_sees_changes_in_their_order_and_again_from_an_older_position,
            a_follower_of_a_quiet_store_gets_empty_batches_and_reaches_the_position_of_now,
            a_follower_may_give_up_waiting_and_loses_nothing,
            positions_never_go_back,
            replicas_are_behind_until_they_come_as_far,
            a_replica_that_reports_no_more_is_not_waited_for,
            preparing_again_changes_nothing,
            a_snapshot_gives_all_data_and_tombstones_in_their_order,
            a_snapshot_is_of_one_moment_beside_a_writer,
            a_tombstone_of_a_backup_wins_and_keeps_its_times,
            the_last_backup_is_remembered,
            a_mark_is_of_one_index_and_its_last,
        }
    };
    ($backend:ident: $($case:ident),+ $(,)?) => {
        mod $backend {
            $(
                #[tokio::test]
                async fn $case() {
                    super::store_backends::$backend(super::$case).await;
                }
            )+
        }
    };
}

contract!(mongo);
contract!(embedded);

async fn a_datum_comes_back_byte_for_byte(store: &dyn Store) {
    let texts = [
        "plain".into(),
        "NUL \0 inside, and at the end \0".into(),
        "🌌 e\u{301} \u{fffd} \u{10ffff} \u{feff}".into(),
        " \r\n kept \t as it is \r\n ".into(),
        "$data: {\"$gt\": 1} 'quoted' -- %00".into(),
        "x".repeat(1024 * 1024),
    ];
    let mut data: Vec<StoredDatum> = texts.into_iter().map(|text: String| datum(&text)).collect();
    data[0].trace = None;
    data[1].passages = vec![];
    data[2].passages = vec!["🌌".into(), String::new(), "\0".into()];
    assert_eq!(store.put(&data).await.unwrap(), vec![Put::Stored; data.len()]);
    for datum in data {
        assert_eq!(store.get(datum.id).await.unwrap(), Some(StoreEntry::Live(datum)));
    }
}

async fn putting_twice_is_putting_once(store: &dyn Store) {
    let first = datum("the first");
    assert_eq!(put_one(store, &first).await, Put::Stored);
    let second = StoredDatum { text: "another text".into(), ..first.clone() };
    assert_eq!(put_one(store, &second).await, Put::Stored);
    assert_eq!(store.get(first.id).await.unwrap(), Some(StoreEntry::Live(first)));
    assert_eq!(store.counts().await.unwrap(), counts(1, 0));
}

async fn a_batch_says_what_became_of_each(store: &dyn Store) {
    let (fresh, there, retracted) = (datum("fresh"), datum("there"), datum("retracted"));
    put_one(store, &there).await;
    store.retract(retracted.id).await.unwrap();
    let others: Vec<StoredDatum> = (0..1_500).map(|n| datum(&n.to_string())).collect();
    let mut batch = vec![retracted.clone(), fresh.clone(), there.clone()];
    batch.extend(others);
    batch.extend([fresh, retracted]);
    let mut expected = vec![Put::Stored; batch.len()];
    expected[0] = Put::Retracted;
    *expected.last_mut().unwrap() = Put::Retracted;
    assert_eq!(store.put(&batch).await.unwrap(), expected);
    assert_eq!(store.put(&batch).await.unwrap(), expected, "the same again");
    assert_eq!(store.counts().await.unwrap(), counts(1_502, 1));
}

async fn an_empty_batch_is_nothing(store: &dyn Store) {
    assert_eq!(store.put(&[]).await.unwrap(), vec![]);
    assert_eq!(store.counts().await.unwrap(), counts(0, 0));
}

async fn many_at_once_put_the_same_datum_once(store: &dyn Store) {
    let datum = datum("popular");
    let puts = join_all((0..32).map(|_| put_one(store, &datum))).await;
    assert_eq!(puts, vec![Put::Stored; 32]);
    assert_eq!(store.counts().await.unwrap(), counts(1, 0));
}

async fn a_retracted_datum_leaves_a_tombstone(store: &dyn Store) {
    let datum = datum("to be taken back");
    put_one(store, &datum).await;
    assert_eq!(store.retract(datum.id).await.unwrap(), Retraction::WasLive);
    let tombstone = store.get(datum.id).await.unwrap();
    let Some(StoreEntry::Tombstone { id, received_at, .. }) = tombstone else {
        panic!("{tombstone:?} is no tombstone")
    };
    assert_eq!((id, received_at), (datum.id, Some(datum.received_at)));

    assert_eq!(put_one(store, &datum).await, Put::Retracted, "it cannot come back");
    assert_eq!(store.retract(datum.id).await.unwrap(), Retraction::WasRetracted);
    assert_eq!(store.get(datum.id).await.unwrap(), tombstone, "its time stays that of the first retraction");
    assert_eq!(scan(store).await, BTreeMap::new());
    assert_eq!(store.counts().await.unwrap(), counts(0, 1));
}

async fn a_datum_retracted_before_it_is_put_never_comes(store: &dyn Store) {
    let datum = datum("too late");
    assert_eq!(store.retract(datum.id).await.unwrap(), Retraction::WasAbsent);
    assert_eq!(put_one(store, &datum).await, Put::Retracted);
    let entry = store.get(datum.id).await.unwrap();
    assert!(matches!(entry, Some(StoreEntry::Tombstone { received_at: None, .. })), "{entry:?}");
    assert_eq!(store.counts().await.unwrap(), counts(0, 1));
}

async fn retracting_wins_over_putting_at_the_same_moment(store: &dyn Store) {
    let data: Vec<StoredDatum> = (0..50).map(|n| datum(&n.to_string())).collect();
    let race = |datum: StoredDatum| async move {
        let (retractions, put) =
            join(join(store.retract(datum.id), store.retract(datum.id)), put_one(store, &datum)).await;
        let seen = [retractions.0.unwrap(), retractions.1.unwrap()];
        let replaced = seen.iter().filter(|r| **r != Retraction::WasRetracted).count();
        assert_eq!(replaced, 1, "one of two retractions is the first: {seen:?}");
        assert_eq!(put == Put::Stored, seen.contains(&Retraction::WasLive), "{put:?} {seen:?}");
    };
    join_all(data.into_iter().map(race)).await;
    assert_eq!(store.counts().await.unwrap(), counts(0, 50));
}

async fn what_was_never_put_is_not_there(store: &dyn Store) {
    assert_eq!(store.get(DatumId::generate()).await.unwrap(), None);
    assert_eq!(store.get(DatumId::Original([7; 12])).await.unwrap(), None);
}

async fn a_scan_gives_all_live_data_and_only_them(store: &dyn Store) {
    assert_eq!(scan(store).await, BTreeMap::new(), "an empty store");
    let data: Vec<StoredDatum> = (0..3_210).map(|n| datum(&n.to_string())).collect();
    store.put(&data).await.unwrap();
    let (retracted, live) = data.split_at(10);
    join_all(retracted.iter().map(|datum| store.retract(datum.id))).await;
    assert_eq!(scan(store).await, by_id(live));
    assert_eq!(store.counts().await.unwrap(), counts(3_200, 10));
}

async fn a_scan_in_parts_gives_each_once(store: &dyn Store) {
    for count in [0, 1, 4_000] {
        let mut data: Vec<StoredDatum> = (0..count).map(|n| datum(&n.to_string())).collect();
        // Those of the original application have ids of another type.
        for (n, datum) in data.iter_mut().enumerate().skip(2_500) {
            let n = u32::try_from(n).unwrap().to_be_bytes();
            datum.id = DatumId::Original(std::array::from_fn(|at| n[at % 4]));
        }
        store.put(&data).await.unwrap();
        let retracted: Vec<StoredDatum> = data.iter().step_by(1_000).skip(1).cloned().collect();
        join_all(retracted.iter().map(|datum| store.retract(datum.id))).await;
        let expected: Known = scan(store).await;
        let parts = store.scan_in_parts(5).await.unwrap();
        let parts = join_all(parts.into_iter().map(|part| part.try_concat())).await;
        let found: Vec<StoredDatum> = parts.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(found.len(), expected.len(), "none twice");
        assert!(by_id(&found) == expected);
    }
}

async fn a_scan_and_a_follow_miss_nothing_beside_a_writer(store: &dyn Store) {
    let data: Vec<StoredDatum> = (0..2_000).map(|n| datum(&n.to_string())).collect();
    let (retracted, live): (Vec<_>, Vec<_>) = data.iter().cloned().enumerate().partition(|(n, _)| n % 5 == 3);
    let write = async {
        for (n, batch) in data.chunks(20).enumerate() {
            store.put(batch).await.unwrap();
            // Some of this batch, and some of batches from long before.
            for (_, datum) in retracted.iter().skip(n * 2).take(2).chain(retracted.iter().skip(n * 4).take(2)) {
                store.retract(datum.id).await.unwrap();
            }
        }
        join_all(retracted.iter().map(|(_, datum)| store.retract(datum.id))).await;
    };
    let follow = async {
        let mut followers = Vec::new();
        for _ in 0..5 {
            let from = store.position().await.unwrap();
            let known = scan(store).await;
            followers.push((known, store.follow(from).await.unwrap()));
        }
        followers
    };
    let ((), followers) = join(write, follow).await;
    let live: Vec<StoredDatum> = live.into_iter().map(|(_, datum)| datum).collect();
    for (mut known, mut changes) in followers {
        catch_up(&mut *changes, &mut known).await;
        assert!(known == by_id(&live), "{} known, {} live", known.len(), live.len());
    }
}

async fn a_follower_sees_changes_in_their_order_and_again_from_an_older_position(store: &dyn Store) {
    let data: Vec<StoredDatum> = ["a", "b", "c", "d"].into_iter().map(datum).collect();
    put_one(store, &data[0]).await;
    let from = store.position().await.unwrap();
    let mut expected = Vec::new();
    for datum in &data[1..] {
        put_one(store, datum).await;
        expected.push(Change::Put(Box::new(datum.clone())));
    }
    for datum in [&data[1], &data[0]] {
        store.retract(datum.id).await.unwrap();
        expected.push(Change::Removed(datum.id));
    }
    // A put whose datum is retracted before it is followed may be left out.
    let b = data[1].id;
    let without_b = |changes: Vec<Change>| -> Vec<Change> {
        changes.into_iter().filter(|change| !matches!(change, Change::Put(datum) if datum.id == b)).collect()
    };
    let mut positions = vec![from];
    let mut changes = store.follow(from).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let batch = changes.next(1).await.unwrap();
        if batch.changes.is_empty() {
            break;
        }
        assert_eq!(batch.changes.len(), 1, "no more than asked for");
        seen.extend(batch.changes);
        positions.push(batch.position);
    }
    // What lies at the position itself may come again.
    let first = |change: &Change| matches!(change, Change::Put(datum) if datum.id == data[0].id);
    if seen.first().is_some_and(first) {
        seen.remove(0);
        positions.remove(1);
    }
    assert_eq!(without_b(seen.clone()), without_b(expected));

    for (applied, position) in positions.into_iter().enumerate() {
        let mut again = Vec::new();
        let mut changes = store.follow(position).await.unwrap();
        loop {
            let batch = changes.next(1_000).await.unwrap();
            if batch.changes.is_empty() {
                break;
            }
            again.extend(batch.changes);
        }
        let rest = without_b(seen[applied..].to_vec());
        assert!(without_b(again.clone()).ends_with(&rest), "after {applied} changes: {again:?}");
    }
}

async fn a_follower_of_a_quiet_store_gets_empty_batches_and_reaches_the_position_of_now(store: &dyn Store) {
    let from = store.position().await.unwrap();
    let mut changes = store.follow(from).await.unwrap();
    let batch = changes.next(10).await.unwrap();
    assert_eq!(batch.changes, vec![]);
    assert!(batch.position >= from);

    // A retraction waits until followers reach the position after it, even if nothing else changes meanwhile.
    let id = DatumId::generate();
    store.retract(id).await.unwrap();
    store.announce("another", Some(from)).await.unwrap();
    let after = store.position().await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let batch = changes.next(10).await.unwrap();
        seen.extend(batch.changes);
        if batch.position >= after {
            assert_eq!(seen, vec![Change::Removed(id)]);
            return;
        }
    }
    panic!("the follower does not reach the current position");
}

async fn a_follower_may_give_up_waiting_and_loses_nothing(store: &dyn Store) {
    let from = store.position().await.unwrap();
    let mut changes = store.follow(from).await.unwrap();
    let data: Vec<StoredDatum> = (0..300).map(|n| datum(&n.to_string())).collect();
    let write = async {
        for batch in data.chunks(3) {
            store.put(batch).await.unwrap();
        }
    };
    let follow = async {
        let mut seen = BTreeMap::new();
        let mut limit = Duration::ZERO;
        while seen.len() < data.len() {
            match tokio::time::timeout(limit, changes.next(7)).await {
                Ok(batch) => {
                    apply(batch.unwrap().changes, &mut seen);
                    limit = Duration::ZERO;
                }
                Err(_) => limit += Duration::from_micros(100),
            }
        }
        seen
    };
    let ((), seen) = join(write, follow).await;
    assert_eq!(seen, by_id(&data));
}

async fn positions_never_go_back(store: &dyn Store) {
    let mut last = store.position().await.unwrap();
    let mut changes = store.follow(last).await.unwrap();
    let mut followed = last;
    for n in 0..20 {
        put_one(store, &datum(&n.to_string())).await;
        let position = store.position().await.unwrap();
        assert!(position > last, "a change moves the position on");
        last = position;
        let batch = changes.next(3).await.unwrap();
        assert!(batch.position >= followed);
        followed = batch.position;
    }
}

async fn replicas_are_behind_until_they_come_as_far(store: &dyn Store) {
    store.retract(DatumId::generate()).await.unwrap();
    let early = store.position().await.unwrap();
    store.retract(DatumId::generate()).await.unwrap();
    let late = store.position().await.unwrap();
    assert_eq!(store.replicas_behind(late).await.unwrap(), Vec::<String>::new(), "there is no replica");

    store.announce("one", Some(early)).await.unwrap();
    store.announce("two", Some(late)).await.unwrap();
    store.announce("three", Some(Position::default())).await.unwrap();
    assert_eq!(behind(store, early).await, ["three"]);
    assert_eq!(behind(store, late).await, ["one", "three"]);

    store.announce("one", Some(late)).await.unwrap();
    assert_eq!(behind(store, late).await, ["three"]);
    let listed = async || {
        let replicas = store.replicas().await.unwrap().into_iter();
        replicas.map(|seen| (seen.name, seen.version, seen.is_alive)).collect::<Vec<_>>()
    };
    let alive = |name: &str| (name.to_owned(), Some(env!("CARGO_PKG_VERSION").to_owned()), true);
    assert_eq!(listed().await, [alive("one"), alive("three"), alive("two")]);
    store.announce("three", None).await.unwrap();
    store.announce("three", None).await.unwrap();
    assert_eq!(behind(store, late).await, [""; 0]);
    assert_eq!(listed().await, [alive("one"), alive("two")]);
}

async fn a_replica_that_reports_no_more_is_not_waited_for(store: &dyn Store) {
    store.retract(DatumId::generate()).await.unwrap();
    let now = store.position().await.unwrap();
    store.announce("stopped", Some(Position::default())).await.unwrap();
    assert_eq!(behind(store, now).await, ["stopped"]);
    let given_up = async {
        while !store.replicas_behind(now).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given_up).await.expect("given up after 5 seconds");
}

async fn preparing_again_changes_nothing(store: &dyn Store) {
    let datum = datum("kept");
    put_one(store, &datum).await;
    store.prepare().await.unwrap();
    assert_eq!(store.get(datum.id).await.unwrap(), Some(StoreEntry::Live(datum)));
}

async fn a_snapshot_gives_all_data_and_tombstones_in_their_order(store: &dyn Store) {
    assert_eq!(snapshot(store).await, []);
    let mut data: Vec<StoredDatum> = (0..2_500).map(|n| datum(&n.to_string())).collect();
    // Those of the original application come last, whatever their bytes.
    for byte in [255, 0] {
        data.push(StoredDatum { id: DatumId::Original([byte; 12]), ..datum("of the original") });
    }
    data[7].trace = None;
    data[8].text = "NUL \0 🌌".into();
    let mut shuffled = data.clone();
    shuffled.rotate_left(1_000);
    assert_eq!(store.put(&shuffled).await.unwrap(), vec![Put::Stored; data.len()]);
    let never_there = DatumId::Uuid("00000000-0000-7000-8000-000000000000".parse().unwrap());
    store.retract(data[3].id).await.unwrap();
    store.retract(never_there).await.unwrap();
    let entries = snapshot(store).await;
    data.sort_by_key(|datum| (matches!(datum.id, DatumId::Original(_)), datum.id));
    assert_eq!(entries.len(), data.len() + 1);
    let is_tombstone = |entry: &StoreEntry, of, known: bool| matches!(entry, StoreEntry::Tombstone { id, received_at, .. } if *id == of && received_at.is_some() == known);
    assert!(is_tombstone(&entries[0], never_there, false) && is_tombstone(&entries[4], data[3].id, true));
    for (n, (entry, datum)) in entries[1..].iter().zip(data).enumerate().filter(|(n, _)| *n != 3) {
        assert_eq!(*entry, StoreEntry::Live(datum), "{n}");
    }
}

/// Each pair has at least one live datum at every moment, and its first is retracted only after its second was put.
async fn a_snapshot_is_of_one_moment_beside_a_writer(store: &dyn Store) {
    let pairs: Vec<[StoredDatum; 2]> = (0..300).map(|_| [datum("before"), datum("after")]).collect();
    let (firsts, mut seconds): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[first, second]| (first, second)).unzip();
    store.put(&firsts).await.unwrap();
    // The second of the first pair comes last in the order of the ids, so that a scan would be at another moment there.
    seconds.reverse();
    let filler: Vec<StoredDatum> = (0..3_000).map(|_| datum(&"filler ".repeat(300))).collect();
    store.put(&filler).await.unwrap();
    let writer = async {
        for (first, second) in firsts.iter().zip(&seconds) {
            put_one(store, second).await;
            store.retract(first.id).await.unwrap();
        }
    };
    let reader = async {
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(snapshot(store).await);
        }
        seen
    };
    let ((), snapshots) = join(writer, reader).await;
    let mut in_between = 0;
    for entries in snapshots {
        let live: std::collections::HashSet<DatumId> =
            entries.iter().filter(|entry| matches!(entry, StoreEntry::Live(_))).map(StoreEntry::id).collect();
        let retracted = firsts.iter().filter(|first| !live.contains(&first.id)).count();
        in_between += usize::from(retracted > 0 && retracted < firsts.len());
        for (first, second) in firsts.iter().zip(&seconds) {
            assert!(live.contains(&first.id) || live.contains(&second.id), "neither of a pair is in a snapshot");
        }
        let both = firsts.iter().zip(&seconds).filter(|(a, b)| live.contains(&a.id) && live.contains(&b.id)).count();
        assert!(both <= 1, "the writer is with one pair at a time, and {both} are whole");
    }
    assert!(in_between > 0, "no snapshot was made while it was written");
}

async fn a_tombstone_of_a_backup_wins_and_keeps_its_times(store: &dyn Store) {
    let (live, retracted) = (datum("live"), datum("retracted"));
    store.put(&[live.clone(), retracted.clone()]).await.unwrap();
    store.retract(retracted.id).await.unwrap();
    let before = store.get(retracted.id).await.unwrap();
    let at = |millis| Timestamp::from_millis(millis);
    let tombstone = |id, received_at| Tombstone { id, received_at, retracted_at: at(7) };
    let absent = [datum("").id, DatumId::Original([5; 12])];
    let tombstones = [
        tombstone(live.id, None),
        tombstone(retracted.id, Some(at(1))),
        tombstone(absent[0], Some(at(3))),
        tombstone(absent[1], None),
    ];
    let mut changes = store.follow(store.position().await.unwrap()).await.unwrap();
    let was = store.put_tombstones(&tombstones).await.unwrap();
    let (live_before, absent_before, retracted_before) =
        (Retraction::WasLive, Retraction::WasAbsent, Retraction::WasRetracted);
    assert_eq!(was, [live_before, retracted_before, absent_before, absent_before]);
    assert_eq!(store.put_tombstones(&tombstones).await.unwrap(), [retracted_before; 4], "the same again");
    let entry = |id, received_at| Some(StoreEntry::Tombstone { id, received_at, retracted_at: at(7) });
    assert_eq!(store.get(live.id).await.unwrap(), entry(live.id, Some(live.received_at)));
    assert_eq!(store.get(retracted.id).await.unwrap(), before);
    assert_eq!(store.get(absent[0]).await.unwrap(), entry(absent[0], Some(at(3))));
    assert_eq!(put_one(store, &live).await, Put::Retracted);
    assert_eq!(store.counts().await.unwrap(), counts(0, 4));
    assert_eq!(store.put_tombstones(&[]).await.unwrap(), []);
    let mut known = by_id(&[live]);
    catch_up(&mut *changes, &mut known).await;
    assert!(known.is_empty(), "followers see it");
}

async fn the_last_backup_is_remembered(store: &dyn Store) {
    assert_eq!(store.last_backup(BackupKind::Backup).await.unwrap(), None);
    for millis in [1_795_406_022_123, 1_795_406_022_987] {
        store.record_backup(BackupKind::Backup, Timestamp::from_millis(millis)).await.unwrap();
        let last = store.last_backup(BackupKind::Backup).await.unwrap();
        assert_eq!(last, Some(Timestamp::from_millis(millis)));
    }
    assert_eq!(store.last_backup(BackupKind::Drill).await.unwrap(), None);
    assert_eq!(snapshot(store).await, [], "it is no datum");
}

async fn a_mark_is_of_one_index_and_its_last(store: &dyn Store) {
    assert_eq!(store.marked_index("one").await.unwrap(), None);
    for position in [Position(0), Position(7), Position(u64::from(u32::MAX) << 30)] {
        store.mark_index("one", position).await.unwrap();
        assert_eq!(store.marked_index("one").await.unwrap(), Some(position));
    }
    store.mark_index("another", Position(1)).await.unwrap();
    assert_eq!(store.marked_index("another").await.unwrap(), Some(Position(1)));
    assert_eq!(store.marked_index("one").await.unwrap(), Some(Position(u64::from(u32::MAX) << 30)));
    assert_eq!(snapshot(store).await, [], "it is no datum");
}

async fn snapshot(store: &dyn Store) -> Vec<StoreEntry> {
    store.snapshot().try_concat().await.unwrap()
}

pub(crate) async fn put_one(store: &dyn Store, datum: &StoredDatum) -> Put {
    let puts = store.put(std::slice::from_ref(datum)).await.unwrap();
    assert_eq!(puts.len(), 1);
    puts.into_iter().next().unwrap()
}

fn counts(learned: u64, retracted: u64) -> StoreCounts {
    StoreCounts { learned, retracted }
}

async fn behind(store: &dyn Store, position: Position) -> Vec<String> {
    let mut behind = store.replicas_behind(position).await.unwrap();
    behind.sort();
    behind
}

type Known = BTreeMap<DatumId, StoredDatum>;

fn by_id(data: &[StoredDatum]) -> Known {
    data.iter().map(|datum| (datum.id, datum.clone())).collect()
}

/// All live data, as a scan gives them.
pub(crate) async fn scan(store: &dyn Store) -> Known {
    let data: Vec<StoredDatum> = store.scan().try_collect::<Vec<_>>().await.unwrap().concat();
    by_id(&data)
}

fn apply(changes: Vec<Change>, known: &mut Known) {
    for change in changes {
        match change {
            Change::Put(datum) => drop(known.insert(datum.id, *datum)),
            Change::Removed(id) => drop(known.remove(&id)),
        }
    }
}

/// Applies changes until the store has nothing new.
pub(crate) async fn catch_up(changes: &mut dyn Changes, known: &mut Known) {
    loop {
        let batch = changes.next(100).await.unwrap();
        assert!(batch.changes.len() <= 100);
        if batch.changes.is_empty() {
            return;
        }
        apply(batch.changes, known);
    }
}
