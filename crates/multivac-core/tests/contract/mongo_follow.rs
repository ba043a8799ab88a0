//! What MongoDB's change stream owes a follower when somebody writes documents by hand that no event has room for.

use std::sync::Arc;

use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::datum::DatumId;
use multivac_core::index::Index;
use multivac_core::index::follow::Follower;
use multivac_core::store::Store;
use multivac_testkit::backends::{SharedServers, with_database};
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
