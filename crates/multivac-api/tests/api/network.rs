//! The network between the api and MongoDB fails: it goes on answering from what it knows, and catches up by itself.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_testkit::backends::SharedServers;
use multivac_testkit::proxy::{Mode, Proxy};

use crate::test_app::TestApp;

#[actix_web::test]
async fn cut_off_from_mongodb_it_answers_takes_data_and_catches_up() {
    let Some(servers) = SharedServers::find() else { return };
    let mongo = servers.mongo_url.split_once("://").unwrap().1.split('/').next().unwrap().to_owned();
    let proxy = Proxy::start(mongo).await;
    let database = servers.database().await;
    // A direct connection: with the name of the set, the driver would learn the real address and go past the proxy.
    let url = format!("mongodb://{}/{}?directConnection=true", proxy.address, servers.name);
    let flags = ["--redis-url", &servers.redis_url, "--mongo-url", &url, "--namespace", &servers.name];
    let entropy = database.collection::<Document>("entropy");
    let learn = async |text: &str| {
        entropy.insert_one(doc! { "_id": ObjectId::new(), "data": text }).await.unwrap();
    };
    let app = TestApp::start(&flags).await;
    learn("Penguins eat krill and small fish.").await;
    app.until("/multivac?question=What+do+penguins+eat", |answer| answer["status"] == "answered").await;

    for (mode, text, question) in [
        (Mode::Cut, "Owls hunt mice at night.", "What+do+owls+hunt"),
        (Mode::Stall, "Beavers build dams of wood.", "What+do+beavers+build"),
    ] {
        proxy.set(mode);
        learn(text).await;
        let cut = Instant::now();
        // It stays in service: it answers questions, and feeding needs Redis alone.
        let ready = app.until("/readyz", |ready| ready["missing"].to_string().contains("store")).await;
        assert_eq!(ready["ready"], true, "{ready}");
        assert!(cut.elapsed() < Duration::from_secs(20), "it took {:?} to see it", cut.elapsed());
        assert_eq!(app.get("/readyz").await.status(), 200);
        assert_eq!(app.ask("What do penguins eat?").await["answer"], "Penguins eat krill and small fish.");
        app.feed("What is fed meanwhile is kept.").await;
        // What needs the store gets its 503 soon.
        let begun = Instant::now();
        let reply = app.get(&format!("/multivac/data/{}", ObjectId::new())).await;
        assert_eq!(reply.status(), 503);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());

        proxy.set(Mode::Pass);
        let back = Instant::now();
        app.until(&format!("/multivac?question={question}"), |answer| answer["answer"] == text).await;
        assert!(back.elapsed() < Duration::from_secs(10), "it took {:?} to catch up", back.elapsed());
        app.until("/readyz", |ready| ready["missing"].as_array().is_some_and(Vec::is_empty)).await;
    }
    app.stop().await;
    servers.clean_up().await;
}
