//! The network between one replica and MongoDB fails: it takes data all the same, answers no question once it cannot know
//! any more what is retracted, and catches up by itself. The other replica goes on.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_testkit::backends::SharedServers;
use multivac_testkit::proxy::{Mode, Proxy};
use multivac_testkit::wait::until;
use reqwest::{Method, Response, StatusCode};

use crate::test_app::TestApp;

/// A question, to a replica that may be fenced.
async fn ask(app: &TestApp, question: &str, held: Option<&str>) -> Response {
    let request = app.request(Method::GET, "/multivac").query(&[("question", question)]);
    held.iter().fold(request, |request, tag| request.header("If-None-Match", *tag)).send().await.unwrap()
}

#[actix_web::test]
async fn cut_off_from_mongodb_it_fences_itself_before_others_stop_waiting_and_catches_up() {
    let Some(servers) = SharedServers::find() else { return };
    let mongo = servers.mongo_url.split_once("://").unwrap().1.split('/').next().unwrap().to_owned();
    let proxy = Proxy::start(mongo).await;
    let database = servers.database().await;
    // A direct connection: with the name of the set, the driver would learn the real address and go past the proxy.
    let url = format!("mongodb://{}/{}?directConnection=true", proxy.address, servers.name);
    let flags = ["--redis-url", &servers.redis_url, "--mongo-url", &url, "--namespace", &servers.name];
    let entropy = database.collection::<Document>("entropy");
    let learn = async |text: &str| {
        let id = ObjectId::new();
        entropy.insert_one(doc! { "_id": id, "data": text }).await.unwrap();
        format!("/multivac/data/{id}")
    };
    let direct = servers.flags();
    let (cut_off, other) =
        (TestApp::start(&flags).await, TestApp::start(&direct.iter().map(String::as_str).collect::<Vec<_>>()).await);
    let penguins = "/multivac?question=What+do+penguins+eat";
    for (mode, text, question) in [
        (Mode::Cut, "Owls hunt mice at night.", "What+do+owls+hunt"),
        (Mode::Stall, "Beavers build dams of wood.", "What+do+beavers+build"),
    ] {
        let taken_back = learn("Penguins eat krill and small fish.").await;
        let standing = cut_off.get("/multivac").await.headers()["etag"].to_str().unwrap().to_owned();
        for app in [&cut_off, &other] {
            app.until(penguins, |answer| answer["status"] == "answered").await;
        }
        let held = ask(&cut_off, "What do penguins eat?", None).await.headers()["etag"].to_str().unwrap().to_owned();
        proxy.set(mode);
        learn(text).await;
        let cut = Instant::now();
        // It goes on answering as long as others wait for it, and says how many they wait for.
        let retraction = other.request(Method::DELETE, &taken_back).send();
        let waits = async {
            other.until(&taken_back, |datum| datum["status"] == "retracted" && datum["visible_to"] == 1).await;
            ask(&cut_off, "What do penguins eat?", None).await.status()
        };
        let (retraction, status) = futures_util::future::join(retraction, waits).await;
        let mut retracted = retraction.unwrap().status();
        assert!(cut.elapsed() > Duration::from_secs(4), "204 after {:?}, while it answered: {status}", cut.elapsed());
        while retracted == StatusCode::ACCEPTED {
            retracted = other.request(Method::DELETE, &taken_back).send().await.unwrap().status();
        }
        assert_eq!(retracted, 204);
        assert!(cut.elapsed() < Duration::from_secs(20), "204 after {:?}", cut.elapsed());
        // On a busy machine the store may take too long to tell, which is a 503; but never another number.
        let seen = other.until(&taken_back, |datum| datum["visible_to"].is_number()).await;
        assert_eq!(seen["visible_to"], 0, "{seen}");
        // From here on no answer may rest on the datum, and 304 is an answer.
        for (path, held) in [(penguins, &held), ("/multivac", &standing)] {
            let request = cut_off.request(Method::GET, path).header("If-None-Match", held);
            let reply = request.send().await.unwrap();
            assert_eq!(reply.status(), 503, "{path}");
            assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u64>().is_ok_and(|seconds| seconds > 0));
            assert_eq!(reply.headers()["content-type"], "application/problem+json");
        }
        assert_eq!(ask(&cut_off, "What do penguins eat?", Some(&held)).await.status(), 503);
        let ready = cut_off.json("/readyz").await;
        assert!(ready["ready"] == false && ready["missing"].to_string().contains("fenced"), "{ready}");
        // The metrics are those of this process, in which other tests set them too.
        until("the metrics say so", async || {
            cut_off.get("/metrics").await.text().await.unwrap().contains("\nmultivac_fenced 1\n")
        })
        .await;
        assert!(other.ask("What do penguins eat?").await["evidence"].as_array().unwrap().is_empty());
        // Feeding needs Redis alone.
        cut_off.feed("What is fed meanwhile is kept.").await;
        // What needs the store gets its 503 soon.
        let begun = Instant::now();
        let reply = cut_off.get(&format!("/multivac/data/{}", ObjectId::new())).await;
        assert_eq!(reply.status(), 503);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());

        proxy.set(Mode::Pass);
        let back = Instant::now();
        until("it answers again", async || {
            let reply =
                cut_off.request(Method::GET, penguins).header("Accept", "application/json").send().await.unwrap();
            // Whatever it has caught up with by then: not with that datum.
            match reply.status().as_u16() {
                200 => assert_eq!(reply.json::<serde_json::Value>().await.unwrap()["evidence"], serde_json::json!([])),
                status => assert_eq!(status, 503),
            }
            cut_off.json(&format!("/multivac?question={question}")).await["answer"] == text
        })
        .await;
        assert!(back.elapsed() < Duration::from_secs(10), "it took {:?} to catch up", back.elapsed());
        cut_off.until("/readyz", |ready| ready["missing"].as_array().is_some_and(Vec::is_empty)).await;
        assert!(cut_off.get("/metrics").await.text().await.unwrap().contains("\nmultivac_fenced 0\n"));
    }
    cut_off.stop().await;
    other.stop().await;
    servers.clean_up().await;
}
