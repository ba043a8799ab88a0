//! MongoDB with TLS, passwords, and errors that the adapter does not know: a server that can be told to fail.

use mongodb::Client;
use mongodb::bson::doc;
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::store::{Change, Put, Store, StoreError};
use multivac_testkit::mongo::SecureMongod;
use multivac_testkit::sample::stored_datum as datum;

use crate::store::put_one;
use crate::store_backends::passages;

#[tokio::test]
async fn tls_and_a_password_come_with_the_url_and_only_a_documents_own_error_refuses_it() {
    let Some(server) = SecureMongod::start().await else { return };
    let url = server.replica_set_url("multivac:star%40light@", "mongod");
    let store = MongoStore::new(&url.as_str().into(), passages).await.unwrap();
    store.prepare().await.unwrap();
    let from = store.position().await.unwrap();
    let first = datum("over TLS");
    assert_eq!(put_one(&store, &first).await, Put::Stored);
    let mut changes = store.follow(from).await.unwrap();
    let seen = loop {
        let batch = changes.next(10).await.unwrap();
        if !batch.changes.is_empty() {
            break batch.changes;
        }
    };
    assert_eq!(seen, [Change::Put(Box::new(first))]);

    for (url, misconfigured) in [
        (server.replica_set_url("multivac:moonlight@", "mongod"), true),
        (server.replica_set_url("multivac:star%40light@", "unrelated"), false),
        (server.replica_set_url("", "mongod"), true),
        (
            format!("mongodb://multivac:star%40light@127.0.0.1:{}/?serverSelectionTimeoutMS=2000", server.server.port),
            false,
        ),
    ] {
        let store = MongoStore::new(&url.clone().into(), passages).await.unwrap();
        let error = store.prepare().await.unwrap_err();
        assert_eq!(matches!(error, StoreError::Misconfigured(_)), misconfigured, "{error:?}");
        assert!(!format!("{error} {error:?}").contains("light"), "{error:?}");
    }

    // 2 is BadValue. The batch fails with it once, and then its first datum by itself.
    let admin = Client::with_uri_str(&url).await.unwrap().database("admin");
    let fail = |code: i32, times: i32| {
        let data = doc! { "failCommands": ["insert"], "errorCode": code };
        doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data }
    };
    let data = [datum("one"), datum("two"), datum("three")];
    admin.run_command(fail(2, 2)).await.unwrap();
    let puts = store.put(&data).await.unwrap();
    assert!(matches!(&puts[0], Put::Refused(reason) if reason.contains("(error 2)")), "{puts:?}");
    assert_eq!(puts[1..], [Put::Stored, Put::Stored]);
    for code in [57, 10334] {
        admin.run_command(fail(code, 1)).await.unwrap();
        let put = put_one(&store, &datum("at fault")).await;
        assert!(matches!(&put, Put::Refused(reason) if reason.contains(&code.to_string())), "{put:?}");
    }
    // A full disk, a used-up quota, what passes by itself and what nobody knows are not the fault of a datum. (The driver
    // does not retry those by itself.)
    for code in [14031, 8000, 365, 371, 433, 462, 99_999] {
        admin.run_command(fail(code, 1)).await.unwrap();
        let error = store.put(&data).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    assert_eq!(store.put(&data).await.unwrap(), vec![Put::Stored; 3]);
}
