//! MongoDB hangs: every call ends in time, with an error that says so, and works again when MongoDB is back.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::store::{Position, Put, Retraction, Store, StoreError};
use multivac_testkit::hang::{HangingServers, NoMajority};
use multivac_testkit::sample::stored_datum as datum;

use crate::store::put_one;
use crate::store_backends::passages;

/// How long any call may take, and then some.
const IN_TIME: Duration = Duration::from_secs(15);

async fn store_at(url: String) -> MongoStore {
    let store = MongoStore::new(&url.into(), passages).await.unwrap();
    store.prepare().await.unwrap();
    store
}

/// Makes calls that write; how each came out.
async fn write(store: &MongoStore) -> Vec<Result<(), StoreError>> {
    let begun = Instant::now();
    let data = [datum("one"), datum("two")];
    let (put, retract, announce) =
        tokio::join!(store.put(&data), store.retract(data[0].id), store.announce("a replica", Some(Position(7))),);
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    vec![put.map(drop), retract.map(drop), announce]
}

fn all_are_transient(results: &[Result<(), StoreError>]) {
    for result in results {
        assert!(matches!(result, Err(error) if error.is_transient()), "{results:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_to_a_mongodb_that_hangs_takes_for_ever() {
    let Some(servers) = HangingServers::start().await else { return };
    let store = store_at(servers.mongo_url()).await;
    let known = datum("known");
    assert_eq!(put_one(&store, &known).await, Put::Stored);
    let from = store.position().await.unwrap();

    servers.lock().await;
    let results = write(&store).await;
    all_are_transient(&results);
    assert!(results[1].as_ref().unwrap_err().to_string().contains("did not reply within 5 s"), "{results:?}");
    // More than there are connections: what reads is not held up by what hangs, and what hangs does not pile up.
    let begun = Instant::now();
    let hanging = join_all((0..40).map(|n| store.retract(datum(&n.to_string()).id))).await;
    assert!(hanging.iter().all(Result::is_err));
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    assert!(store.get(known.id).await.unwrap().is_some());
    servers.unlock().await;
    assert_eq!(put_one(&store, &datum("again")).await, Put::Stored);
    assert_eq!(store.retract(known.id).await.unwrap(), Retraction::WasLive);

    let mut changes = store.follow(from).await.unwrap();
    servers.mongo.service.pause();
    let begun = Instant::now();
    let (writes, get, position, counts, behind, scan, prepare) = tokio::join!(
        write(&store),
        store.get(known.id),
        store.position(),
        store.counts(),
        store.replicas_behind(from),
        store.scan().try_collect::<Vec<_>>(),
        store.prepare(),
    );
    let reads = [get.map(drop), position.map(drop), counts.map(drop), behind.map(drop), scan.map(drop), prepare];
    all_are_transient(&writes);
    all_are_transient(&reads);
    while changes.next(10).await.is_ok() {}
    assert!(begun.elapsed() < 2 * IN_TIME, "{:?}", begun.elapsed());
    servers.mongo.service.resume();
    let back = async { while store.put(&[datum("back")]).await.is_err() {} };
    tokio::time::timeout(IN_TIME, back).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_waits_for_ever_for_a_majority_that_does_not_come() {
    let Some(servers) = NoMajority::start().await else { return };
    let store = MongoStore::new(&servers.url().into(), passages).await.unwrap();
    let ready = async {
        while let Err(error) = store.prepare().await {
            assert!(error.is_transient(), "{error:?}");
        }
        while store.put(&[datum("first")]).await.is_err() {}
    };
    tokio::time::timeout(multivac_testkit::TEST_TIMEOUT, ready).await.unwrap();
    servers.lose_majority();
    all_are_transient(&write(&store).await);
    servers.regain_majority();
    let back = async { while store.put(&[datum("back")]).await.is_err() {} };
    tokio::time::timeout(2 * IN_TIME, back).await.unwrap();
}
