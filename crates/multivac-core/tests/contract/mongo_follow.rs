//! What MongoDB's change stream owes a follower when somebody writes documents by hand that no event has room for; and what is
//! known of data that are not those any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::datum::DatumId;
use multivac_core::index::Index;
use multivac_core::index::follow::Follower;
use multivac_core::store::{Store, StoreError};
use multivac_testkit::backends::{SharedServers, with_database};
use multivac_testkit::mongo::{self, Mongod};
use multivac_testkit::sample::stored_datum as datum;
use multivac_testkit::wait::until;
use tokio_util::sync::CancellationToken;

use crate::store::{catch_up, put_one};
use crate::store_backends::mongo_and_its_database;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_large_document_can_be_updated_by_hand() {
    mongo_and_its_database(async |mongo| {
        let id = ObjectId::new();
        mongo.entropy().insert_one(doc! { "_id": id, "data": "small" }).await.unwrap();
        let from = mongo.store.position().await.unwrap();
        // With the update beside the whole document, each of these events would be larger than 16 MiB.
        for letter in ["x", "y"] {
            let update = doc! { "$set": { "data": letter.repeat(9 * MIB) } };
            mongo.entropy().update_one(doc! { "_id": id }, update).await.unwrap();
        }
        let mut known = [].into();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut known).await;
        assert!(known[&DatumId::Original(id.bytes())].text.starts_with('y'));
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_too_large_is_passed_by_loading_again() {
    let Some(servers) = SharedServers::find() else { return };
    let store =
        MongoStore::new(&with_database(&servers.mongo_url, &servers.name).into(), |_| Vec::new()).await.unwrap();
    store.prepare().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let index = Arc::new(Index::new().unwrap());
    let (follower, stop) =
        (Follower::new(Arc::clone(&store), Arc::clone(&index), "one".into()), CancellationToken::new());
    let running = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    let mut progress = follower.progress();
    progress.wait_for(|progress| progress.following).await.unwrap();
    // An event names the document's id three times: in the document, beside it, and in hexadecimal in its token.
    let entropy = servers.database().await.collection::<Document>("entropy");
    entropy.insert_one(doc! { "_id": "x".repeat(5 * MIB), "data": "" }).await.unwrap();
    until("the event has come", async || follower.interruptions() > 0).await;
    let after = datum("after it");
    put_one(&*store, &after).await;
    until("what comes after it is followed", async || index.contains(after.id)).await;
    progress.wait_for(|progress| progress.following).await.unwrap();
    assert_eq!(follower.interruptions(), 1);
    assert!(!follower.fence().is_fenced());
    stop.cancel();
    running.await.unwrap();
    servers.clean_up().await;
}

#[tokio::test]
async fn a_mark_is_gone_with_the_collection_that_it_was_made_for() {
    mongo_and_its_database(async |mongo| {
        let (store, position) = (&mongo.store, mongo.store.position().await.unwrap());
        store.mark_index("kept", position).await.unwrap();
        assert_eq!(store.marked_index("kept").await.unwrap(), Some(position));
        mongo.entropy().drop().await.unwrap();
        assert_eq!(store.marked_index("kept").await.unwrap(), None, "there is none");
        put_one(store, &datum("made anew")).await;
        assert_eq!(store.marked_index("kept").await.unwrap(), None, "it is another");
        store.mark_index("kept", position).await.unwrap();
        assert_eq!(store.marked_index("kept").await.unwrap(), Some(position));
        // And a position from before it is lost.
        let lost = async {
            let mut changes = store.follow(position).await?;
            loop {
                changes.next(10).await?;
            }
        };
        let lost: Result<(), StoreError> = lost.await;
        assert!(matches!(lost, Err(StoreError::PositionLost)), "{lost:?}");
    })
    .await;
}

/// A replica that keeps its index in a directory, from start to stop: what it holds once it has caught up, and which index it is.
async fn run_once(store: &Arc<dyn Store>, directory: &Path) -> (u64, String) {
    let index = Arc::new(Index::kept_in(directory).unwrap());
    let follower = Follower::new(Arc::clone(store), Arc::clone(&index), DatumId::generate().to_string());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    let mut progress = follower.progress();
    progress.wait_for(|progress| progress.caught_up).await.unwrap();
    until("it may answer", async || !follower.fence().is_fenced()).await;
    let learned = index.snapshot().learned;
    stop.cancel();
    running.await.unwrap();
    (learned, name_of(directory))
}

/// Which index is kept in a directory.
fn name_of(directory: &Path) -> String {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.join("multivac-index.json")).unwrap()).unwrap();
    manifest["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_index_that_is_kept_goes_on_and_is_made_anew_where_the_position_is_lost() {
    let Some(servers) = SharedServers::find() else { return };
    let url = with_database(&servers.mongo_url, &servers.name).into();
    let store = MongoStore::new(&url, |_| Vec::new()).await.unwrap();
    store.prepare().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let place = tempfile::tempdir().unwrap();
    let data = ["one", "two", "three"].map(datum);
    store.put(&data).await.unwrap();
    let (learned, name) = run_once(&store, place.path()).await;
    assert_eq!(learned, 3);
    store.retract(data[0].id).await.unwrap();
    store.retract(data[1].id).await.unwrap();
    put_one(&*store, &datum("four")).await;
    assert_eq!(run_once(&store, place.path()).await, (2, name.clone()), "it goes on from where it was");
    // The data are dropped while nobody follows, and what comes after has a mark of the same name.
    servers.database().await.collection::<Document>("entropy").drop().await.unwrap();
    put_one(&*store, &datum("five")).await;
    store.mark_index(&name, store.position().await.unwrap()).await.unwrap();
    let (learned, anew) = run_once(&store, place.path()).await;
    assert_eq!(learned, 1);
    assert_ne!(anew, name);
    servers.clean_up().await;
}

/// A copy of its disk goes on at the time of the clock, so a position alone does not tell that it is older.
#[tokio::test]
async fn an_older_copy_of_the_disk_is_known_by_its_marks() {
    let Some(binary) = mongo::installed() else { return };
    let mut server = replica_set_of_one(&binary).await;
    let store = store_of(&server).await;
    put_one(&store, &datum("one")).await;
    let older = store.position().await.unwrap();
    store.mark_index("kept", older).await.unwrap();

    let copy = copy_disk(&mut server);
    prepared(&store).await;
    put_one(&store, &datum("two")).await;
    let newer = store.position().await.unwrap();
    store.mark_index("kept", newer).await.unwrap();
    assert_eq!(store.marked_index("kept").await.unwrap(), Some(newer));

    put_back(&mut server, &copy);
    prepared(&store).await;
    // Under a process that goes on, it is not marked as what that process knows.
    let lost = store.mark_index("kept", store.position().await.unwrap()).await;
    assert!(matches!(lost, Err(StoreError::PositionLost)), "{lost:?}");
    assert_eq!(store.marked_index("kept").await.unwrap(), Some(older));
    assert!(store.position().await.unwrap() > newer, "the clock goes on");
}

/// What the store has lost, a replica that goes on beside it loses as well.
#[tokio::test]
async fn an_older_copy_of_the_disk_is_loaded_anew_by_a_replica_that_runs() {
    let Some(binary) = mongo::installed() else { return };
    let mut server = replica_set_of_one(&binary).await;
    let store = store_of(&server).await;
    put_one(&store, &datum("kept")).await;

    let directory = tempfile::tempdir().unwrap();
    let index = Arc::new(Index::kept_in(directory.path()).unwrap());
    // Its store is its own: what that knows of marks is asked for through the other.
    let own = Arc::new(store_of(&server).await);
    let (follower, stop) = (Follower::new(own, Arc::clone(&index), "one".to_owned()), CancellationToken::new());
    let running = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    follower.progress().wait_for(|progress| progress.caught_up).await.unwrap();
    let name = name_of(directory.path());
    let older = store.marked_index(&name).await.unwrap();

    let copy = copy_disk(&mut server);
    prepared(&store).await;
    let lost = datum("lost");
    put_one(&store, &lost).await;
    until("it is kept farther on", async || store.marked_index(&name).await.is_ok_and(|mark| mark > older)).await;
    assert!(index.contains(lost.id));

    put_back(&mut server, &copy);
    prepared(&store).await;
    let after = datum("after");
    put_one(&store, &after).await;
    until("another was begun", async || name_of(directory.path()) != name).await;
    until("all that the store has is in it", async || index.contains(after.id) && !index.contains(lost.id)).await;
    assert_eq!(index.snapshot().learned, 2);
    until("that is noted", async || {
        store.marked_index(&name_of(directory.path())).await.is_ok_and(|mark| mark.is_some())
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

/// A server of its own, whose disk can be exchanged.
async fn replica_set_of_one(binary: &Path) -> Mongod {
    let server = Mongod::start(binary, &["--replSet", "rs0"]);
    let config = doc! { "_id": "rs0", "members": [{ "_id": 0, "host": server.host() }] };
    until("MongoDB is a replica set", async || server.admin(doc! { "replSetInitiate": &config }).await.is_some()).await;
    server
}

async fn store_of(server: &Mongod) -> MongoStore {
    let url = format!("mongodb://{}/?replicaSet=rs0", server.host()).into();
    let store = MongoStore::new(&url, |_| Vec::new()).await.unwrap();
    prepared(&store).await;
    store
}

async fn prepared(store: &MongoStore) {
    until("it can be used", async || store.prepare().await.is_ok()).await;
}

/// Copies a server's disk while it is stopped, and starts it again. Where the copy is.
fn copy_disk(server: &mut Mongod) -> PathBuf {
    let copy = server.data.with_extension("copy");
    assert_eq!(server.service.stop(), Some(0));
    copy_directory(&server.data, &copy);
    server.service.start_again();
    copy
}

/// Starts a server again with what its disk was when it was copied.
fn put_back(server: &mut Mongod, copy: &Path) {
    assert_eq!(server.service.stop(), Some(0));
    std::fs::remove_dir_all(&server.data).unwrap();
    std::fs::rename(copy, &server.data).unwrap();
    server.service.start_again();
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
