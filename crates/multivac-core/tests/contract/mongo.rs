//! What MongoDB's store owes beyond the port: its documents, and its errors for servers that cannot be used.

use std::time::{Duration, Instant};

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, doc};
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::datum::DatumId;
use multivac_core::store::{Change, Put, Retraction, Store, StoreCounts, StoreEntry, StoreError, StoredDatum};
use multivac_testkit::backends::with_database;
use multivac_testkit::mongo::{self, Mongod};
use multivac_testkit::port::free_port;
use multivac_testkit::sample::stored_datum as datum;
use multivac_testkit::{TEST_TIMEOUT, environment};

use crate::store::{catch_up, put_one, scan};
use crate::store_backends::{mongo_and_its_database, passages};

#[tokio::test]
async fn a_document_is_as_the_data_model_says() {
    mongo_and_its_database(async |mongo| {
        let datum = datum("a text");
        put_one(&mongo.store, &datum).await;
        let id = datum.id.to_string();
        let document = mongo.entropy().find_one(doc! { "_id": &id }).await.unwrap().unwrap();
        let expected = doc! {
            "_id": &id,
            "data": "a text",
            "passages": ["a first passage", "a second"],
            "received_at": DateTime::from_millis(datum.received_at.as_millis()),
            "processed_at": DateTime::from_millis(datum.processed_at.as_millis()),
            "trace": datum.trace.unwrap(),
        };
        assert_eq!(document, expected);

        mongo.store.retract(datum.id).await.unwrap();
        let mut tombstone = mongo.entropy().find_one(doc! { "_id": &id }).await.unwrap().unwrap();
        assert!(matches!(tombstone.remove("retracted_at"), Some(Bson::DateTime(_))));
        assert_eq!(tombstone, doc! { "_id": &id, "received_at": expected.get("received_at").unwrap() });
    })
    .await;
}

#[tokio::test]
async fn a_document_of_the_original_application_is_a_datum() {
    mongo_and_its_database(async |mongo| {
        let (bare, odd) = (ObjectId::new(), ObjectId::new());
        let documents = [
            doc! { "_id": bare, "data": "learned long ago" },
            doc! { "_id": odd, "data": "odd", "passages": 7, "digest": [], "received_at": "then", "trace": null, "x": 1 },
        ];
        let from = mongo.store.position().await.unwrap();
        mongo.entropy().insert_many(documents).await.unwrap();
        let original = |object_id: ObjectId, text: &str| {
            let id = DatumId::Original(object_id.bytes());
            let created_at = id.created_at().unwrap();
            StoredDatum {
                id,
                text: text.into(),
                passages: passages(text),
                received_at: created_at,
                processed_at: created_at,
                trace: None,
            }
        };
        let (bare, odd) = (original(bare, "learned long ago"), original(odd, "odd"));
        assert_eq!(mongo.store.get(bare.id).await.unwrap(), Some(StoreEntry::Live(bare.clone())));
        let expected = [(bare.id, bare.clone()), (odd.id, odd)].into();
        assert_eq!(scan(&mongo.store).await, expected);
        let mut known = [].into();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut known).await;
        assert_eq!(known, expected);

        assert_eq!(mongo.store.retract(bare.id).await.unwrap(), Retraction::WasLive);
        let entry = mongo.store.get(bare.id).await.unwrap();
        let Some(StoreEntry::Tombstone { id, received_at, .. }) = entry else { panic!("{entry:?} is no tombstone") };
        assert_eq!((id, received_at), (bare.id, Some(bare.received_at)));
    })
    .await;
}

#[tokio::test]
async fn documents_of_another_shape_are_ignored() {
    mongo_and_its_database(async |mongo| {
        let from = mongo.store.position().await.unwrap();
        let foreign = [
            doc! { "_id": 1, "data": "an id of a foreign type" },
            doc! { "_id": "a foreign id", "data": "text" },
            doc! { "_id": "6500010203040506070809ff", "data": "an ObjectId as text" },
            doc! { "_id": { "a": "b" }, "data": "text" },
            doc! { "_id": ObjectId::new() },
            doc! { "_id": ObjectId::new(), "data": 7 },
            doc! { "_id": DatumId::generate().to_string(), "data": { "text": "deeper" } },
        ];
        mongo.entropy().insert_many(foreign).await.unwrap();
        let ours = datum("ours");
        put_one(&mongo.store, &ours).await;
        mongo.entropy().update_one(doc! { "_id": 1 }, doc! { "$set": { "data": "again" } }).await.unwrap();
        mongo.entropy().delete_one(doc! { "_id": "a foreign id" }).await.unwrap();

        let expected = [(ours.id, ours)].into();
        assert_eq!(scan(&mongo.store).await, expected);
        let mut known = [].into();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut known).await;
        assert_eq!(known, expected);
    })
    .await;
}

/// What does not count as a datum must not count as learned either, or it is being processed for ever.
#[tokio::test]
async fn what_is_counted_is_what_is_read() {
    mongo_and_its_database(async |mongo| {
        let now = DateTime::now();
        let (uuid, object_id) = (|| DatumId::generate().to_string(), ObjectId::new);
        let read = [
            doc! { "_id": object_id(), "data": "of the original application" },
            doc! { "_id": object_id(), "data": "" },
            doc! { "_id": uuid(), "data": "bare" },
            doc! { "_id": uuid(), "data": "odd passages", "passages": 7, "received_at": "then", "processed_at": 1, "trace": 1 },
            doc! { "_id": uuid(), "data": "odd passages", "passages": [1, "two"], "received_at": now },
            doc! { "_id": uuid(), "data": "not retracted", "retracted_at": "yesterday" },
            doc! { "_id": uuid(), "data": "not retracted", "retracted_at": null },
            doc! { "_id": uuid(), "data": "not retracted", "retracted_at": [now] },
        ];
        let tombstones = [
            doc! { "_id": object_id(), "retracted_at": now },
            doc! { "_id": uuid(), "retracted_at": now, "received_at": 1 },
            doc! { "_id": uuid(), "retracted_at": now, "data": "left behind" },
        ];
        let text = uuid();
        let foreign = [
            doc! { "_id": 1, "data": "text" },
            doc! { "_id": 2.5, "data": "text" },
            doc! { "_id": true, "data": "text" },
            doc! { "_id": { "a": "b" }, "data": "text" },
            doc! { "_id": now, "data": "text" },
            doc! { "_id": "a foreign id", "data": "text" },
            doc! { "_id": object_id().to_hex(), "data": "text" },
            doc! { "_id": text.to_uppercase(), "data": "text" },
            doc! { "_id": format!("{text}\n"), "data": "text" },
            doc! { "_id": text.replace('-', ""), "data": "text" },
            doc! { "_id": object_id() },
            doc! { "_id": object_id(), "data": 7 },
            doc! { "_id": uuid(), "data": null },
            doc! { "_id": uuid(), "data": ["text"] },
            doc! { "_id": uuid(), "data": { "text": "deeper" } },
            doc! { "_id": uuid(), "data": 7, "retracted_at": "yesterday" },
            doc! { "_id": uuid(), "retracted_at": [now] },
            doc! { "_id": 3, "retracted_at": now },
            doc! { "_id": "another foreign id", "retracted_at": now },
        ];
        let expected = StoreCounts { learned: read.len() as u64 + 1, retracted: tombstones.len() as u64 };
        put_one(&mongo.store, &datum("ours")).await;
        mongo.entropy().insert_many(&read).await.unwrap();
        mongo.entropy().insert_many(&tombstones).await.unwrap();
        assert_eq!(mongo.store.counts().await.unwrap(), expected);
        // Having read all, it need not look at every document.
        assert_eq!(scan(&mongo.store).await.len() as u64, expected.learned);
        assert_eq!(mongo.store.counts().await.unwrap(), expected);

        let from = mongo.store.position().await.unwrap();
        mongo.entropy().insert_many(&foreign).await.unwrap();
        let mut known = [].into();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut known).await;
        assert_eq!(known, [].into());
        assert_eq!(mongo.store.counts().await.unwrap(), expected);
        assert_eq!(scan(&mongo.store).await.len() as u64, expected.learned);
        assert_eq!(mongo.store.counts().await.unwrap(), expected);

        // Whatever its shape was, what is retracted is a tombstone.
        let odd = read[5].get_str("_id").unwrap().parse().unwrap();
        assert_eq!(mongo.store.retract(odd).await.unwrap(), Retraction::WasLive);
        assert!(matches!(mongo.store.get(odd).await.unwrap(), Some(StoreEntry::Tombstone { .. })));
        let retracted = StoreCounts { learned: expected.learned - 1, retracted: expected.retracted + 1 };
        assert_eq!(mongo.store.counts().await.unwrap(), retracted);
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_changes_or_deletes_is_followed() {
    mongo_and_its_database(async |mongo| {
        let (changed, deleted) = (datum("before"), datum("deleted"));
        mongo.store.put(&[changed.clone(), deleted.clone()]).await.unwrap();
        let from = mongo.store.position().await.unwrap();
        let id = |datum: &StoredDatum| doc! { "_id": datum.id.to_string() };
        mongo.entropy().update_one(id(&changed), doc! { "$set": { "data": "after" } }).await.unwrap();
        mongo.entropy().delete_one(id(&deleted)).await.unwrap();
        let mut changes = mongo.store.follow(from).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let batch = changes.next(10).await.unwrap().changes;
            seen.extend(batch.into_iter().filter(|change| !matches!(change, Change::Put(d) if d.id == deleted.id)));
        }
        let after = Change::Put(Box::new(StoredDatum { text: "after".into(), ..changed }));
        assert_eq!(seen[seen.len() - 2..], [after, Change::Removed(deleted.id)]);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_collection_or_a_position_of_long_ago_is_lost() {
    mongo_and_its_database(async |mongo| {
        let from = mongo.store.position().await.unwrap();
        let mut changes = mongo.store.follow(from).await.unwrap();
        mongo.entropy().drop().await.unwrap();
        assert!(matches!(lost(&mut *changes).await, StoreError::PositionLost));
        // And from anew all goes on.
        let from = mongo.store.position().await.unwrap();
        let mut changes = mongo.store.follow(from).await.unwrap();
        changes.next(1).await.ok();

        let long_ago = multivac_core::store::Position(1 << 32);
        let error = match mongo.store.follow(long_ago).await {
            Ok(mut changes) => lost(&mut *changes).await,
            Err(error) => error,
        };
        assert!(matches!(error, StoreError::PositionLost), "{error:?}");
    })
    .await;
}

async fn lost(changes: &mut dyn multivac_core::store::Changes) -> StoreError {
    loop {
        if let Err(error) = changes.next(10).await {
            return error;
        }
    }
}

#[tokio::test]
async fn a_document_that_mongodb_refuses_leaves_the_others_alone() {
    mongo_and_its_database(async |mongo| {
        let unwelcome = doc! { "data": { "$not": { "$regex": "unwelcome" } } };
        mongo.database.run_command(doc! { "collMod": "entropy", "validator": unwelcome }).await.unwrap();
        let large = "x".repeat(16 * 1024 * 1024);
        let data = [datum("one"), datum(&large), datum("unwelcome"), datum("two")];
        let puts = mongo.store.put(&data).await.unwrap();
        assert_eq!((&puts[0], &puts[3]), (&Put::Stored, &Put::Stored));
        for refused in &puts[1..3] {
            assert!(matches!(refused, Put::Refused(reason) if !reason.contains("unwelcome")), "{refused:?}");
        }
        assert_eq!(scan(&mongo.store).await.len(), 2);

        // Nor does a unique index that somebody made.
        mongo.database.run_command(doc! { "collMod": "entropy", "validator": {} }).await.unwrap();
        let unique = doc! { "key": { "data": 1 }, "name": "unique", "unique": true };
        mongo.database.run_command(doc! { "createIndexes": "entropy", "indexes": [unique] }).await.unwrap();
        let puts = mongo.store.put(&[datum("three"), datum("one"), data[0].clone()]).await.unwrap();
        assert_eq!((&puts[0], &puts[2]), (&Put::Stored, &Put::Stored));
        assert!(matches!(&puts[1], Put::Refused(reason) if reason.contains("11000")), "{puts:?}");
    })
    .await;
}

#[tokio::test]
async fn the_largest_document_can_be_followed() {
    mongo_and_its_database(async |mongo| {
        let largest = datum(&"x".repeat(16 * 1024 * 1024 - 64 * 1024 - 400));
        let from = mongo.store.position().await.unwrap();
        assert_eq!(put_one(&mongo.store, &largest).await, Put::Stored);
        let mut known = [].into();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut known).await;
        assert!(known.contains_key(&largest.id));
        mongo.store.retract(largest.id).await.unwrap();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut known).await;
        assert!(known.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_misconfigured_and_not_shown() {
    let Some(url) = environment::variable("MULTIVAC_TEST_MONGO_URL") else { return };
    let url = with_database(&url, "multivac").replacen("://", "://nobody:hunter2@", 1);
    let store = MongoStore::new(&url.into(), passages).await.unwrap();
    let error = store.prepare().await.unwrap_err();
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_malformed_url_is_misconfigured_and_not_shown() {
    for url in [
        "",
        "hunter2",
        "redis://hunter2",
        "mongodb://user:hunter2/",
        "mongodb://u:hunter2@h:x/",
        "mongodb://h/?w=hunter2&x",
    ] {
        let Err(error) = MongoStore::new(&url.into(), passages).await else { panic!("{url} is taken") };
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_soon() {
    // Nobody listens there, so a connection is refused.
    let port = free_port();
    let store = MongoStore::new(&format!("mongodb://127.0.0.1:{port}/?replicaSet=rs0").into(), passages).await.unwrap();
    let begun = Instant::now();
    let error = store.prepare().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(store.put(&[datum("lost")]).await.unwrap_err().is_transient());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stand_alone_server_is_refused_with_advice() {
    let Some(mongod) = mongo::installed() else { return };
    let server = Mongod::start(&mongod, &[]);
    let store = MongoStore::new(&format!("mongodb://{}/", server.host()).into(), passages).await.unwrap();
    let answer = async {
        loop {
            match store.prepare().await {
                Err(error) if error.is_transient() => {}
                other => return other,
            }
        }
    };
    let answer = tokio::time::timeout(TEST_TIMEOUT, answer).await;
    let error = answer.expect("an answer within a minute").unwrap_err();
    assert!(matches!(&error, StoreError::Misconfigured(what) if what.contains("--replSet")), "{error:?}");
}
