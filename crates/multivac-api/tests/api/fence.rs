//! A replica that is suspended, slow, or still loading: once a retraction has got its 204, no answer of it rests on the datum.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_testkit::backends::SharedServers;
use multivac_testkit::text::sentence;
use multivac_testkit::wait::until;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::event_client::Events;
use crate::program::Program;
use crate::test_app::TestApp;

const TEXT: &str = "Penguins eat krill and small fish.";
const ASKED: &str = "/multivac?question=What+do+penguins+eat";
const WATCHED: &str = "/multivac/events?question=What+do+penguins+eat";

/// A replica through which data are retracted, and the real program, which is to fail.
struct Replicas {
    servers: SharedServers,
    entropy: Collection<Document>,
    other: TestApp,
    client: Client,
    /// Where the datum is that is retracted.
    path: String,
}

impl Replicas {
    /// Without the servers the test is skipped.
    async fn start() -> Option<Self> {
        let servers = SharedServers::find()?;
        let entropy = servers.database().await.collection::<Document>("entropy");
        let id = ObjectId::new();
        entropy.insert_one(doc! { "_id": id, "data": TEXT }).await.unwrap();
        let flags = servers.flags();
        let other = TestApp::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
        Some(Self { servers, entropy, other, client: Client::new(), path: format!("/multivac/data/{id}") })
    }

    fn program(&self) -> Program {
        Program::start(&self.servers.flags().iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn retract(&self) -> StatusCode {
        self.other.request(Method::DELETE, &self.path).send().await.unwrap().status()
    }

    /// Retracts again until it is so everywhere.
    async fn retract_everywhere(&self) {
        until("it is retracted everywhere", async || match self.retract().await.as_u16() {
            202 => false,
            status => status == 204,
        })
        .await;
    }

    async fn clean_up(self) {
        self.other.stop().await;
        self.servers.clean_up().await;
    }
}

/// Asks the program; 503, or an answer that does not rest on the datum.
async fn shows_nothing(program: &Program, client: &Client) -> StatusCode {
    let reply =
        client.get(format!("{}{ASKED}", program.base)).header("Accept", "application/json").send().await.unwrap();
    let status = reply.status();
    let answer: Value = reply.json().await.unwrap();
    if status == 200 {
        assert!(!answer.to_string().contains("krill"), "after the 204: {answer}");
    } else {
        assert_eq!(status, 503, "{answer}");
    }
    status
}

async fn answers_with_it(program: &Program, client: &Client) {
    until("it answers", async || {
        let reply = client.get(format!("{}{ASKED}", program.base)).send().await.unwrap();
        reply.status() == 200 && reply.text().await.unwrap() == TEXT
    })
    .await;
}

/// Documents that are cheap to store and take the index long: their text is all in their passages.
fn large(count: usize) -> Vec<Document> {
    let mut sentences = (0..).map(|i| sentence(7, i));
    let mut large = || {
        let passages: Vec<String> = sentences.by_ref().take(6_000).collect();
        doc! { "_id": ObjectId::new(), "data": passages.join("\n\n"), "passages": passages }
    };
    (0..count).map(|_| large()).collect()
}

/// Suspends the program until the datum is retracted; `meanwhile` is done before that. The questions that reached it in the
/// meantime are answered first when it goes on.
async fn suspended(replicas: &Replicas, meanwhile: impl AsyncFnOnce()) {
    let program = replicas.program();
    answers_with_it(&program, &replicas.client).await;
    let mut events = Events::open(&replicas.client, &format!("{}{WATCHED}", program.base), None).await;
    assert_eq!(events.next_answer().await.data["answer"], TEXT);
    program.process.signal("STOP");
    meanwhile().await;
    replicas.retract_everywhere().await;
    let questions = (0..20).map(|_| shows_nothing(&program, &replicas.client));
    let resume = async {
        // They are on their way: nothing of the program runs that could say so.
        tokio::time::sleep(Duration::from_millis(300)).await;
        program.process.signal("CONT");
    };
    futures_util::future::join(futures_util::future::join_all(questions), resume).await;
    // Who watched is not shown it either, and comes back.
    while let Some(event) = events.next().await {
        assert!(!event.data["answer"].to_string().contains("krill"), "after the 204: {event:?}");
        assert!(!event.data["evidence"].to_string().contains("krill"), "after the 204: {event:?}");
    }
    until("it has caught up", async || {
        shows_nothing(&program, &replicas.client).await;
        let ready = replicas.client.get(format!("{}/readyz", program.base)).send().await.unwrap();
        ready.status() == 200
    })
    .await;
    assert_eq!(shows_nothing(&program, &replicas.client).await, 200);
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
}

#[actix_web::test]
async fn a_suspended_replica_shows_nothing_that_was_retracted_meanwhile() {
    let Some(replicas) = Replicas::start().await else { return };
    suspended(&replicas, async || {}).await;
    replicas.clean_up().await;
}

#[actix_web::test]
async fn a_replica_whose_position_is_lost_meanwhile_removes_before_it_adds() {
    let Some(replicas) = Replicas::start().await else { return };
    let others: Vec<Document> =
        (0..3_000).map(|n| doc! { "_id": ObjectId::new(), "data": format!("Star {n} went out.") }).collect();
    replicas.entropy.insert_many(&others).await.unwrap();
    suspended(&replicas, async || {
        // A collection that is dropped takes its changes with it.
        replicas.entropy.drop().await.unwrap();
        replicas.entropy.insert_many(&others).await.unwrap();
        replicas.entropy.insert_one(doc! { "_id": id_of(&replicas.path), "data": "Penguins walk." }).await.unwrap();
    })
    .await;
    replicas.clean_up().await;
}

fn id_of(path: &str) -> ObjectId {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

#[actix_web::test]
async fn a_replica_that_is_still_loading_shows_nothing_that_was_retracted_meanwhile() {
    let Some(replicas) = Replicas::start().await else { return };
    // The datum is in the first commit, and the large ones are not.
    let small = (0..20_000)
        .map(|n| doc! { "_id": ObjectId::new(), "data": format!("Star {n}."), "passages": [format!("Star {n}.")] });
    replicas.entropy.insert_many(small).await.unwrap();
    replicas.entropy.insert_many(large(8)).await.unwrap();
    let program = replicas.program();
    answers_with_it(&program, &replicas.client).await;
    let ready = replicas.client.get(format!("{}/readyz", program.base)).send().await.unwrap();
    assert_eq!(ready.status(), 503, "it has loaded all, so this test shows nothing: {}", ready.text().await.unwrap());
    loop {
        let status = replicas.retract().await;
        if status == 204 {
            break;
        }
        assert_eq!(status, 202);
    }
    shows_nothing(&program, &replicas.client).await;
    program.kill();
    replicas.clean_up().await;
}

#[actix_web::test]
async fn a_slow_replica_shows_nothing_that_was_retracted_meanwhile() {
    let Some(replicas) = Replicas::start().await else { return };
    let program = replicas.program();
    answers_with_it(&program, &replicas.client).await;
    // A tenth of a processor.
    let done = Arc::new(AtomicBool::new(false));
    let slow_down = {
        let (done, id) = (Arc::clone(&done), program.process.id().to_string());
        let signal = |name: &str, id: &str| Command::new("kill").args(["-s", name, id]).status().unwrap();
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                signal("STOP", &id);
                std::thread::sleep(Duration::from_millis(450));
                signal("CONT", &id);
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    };
    replicas.entropy.insert_many(large(3)).await.unwrap();
    // Until the other has indexed the first of them, so that both have them under way.
    let before = replicas.other.json("/multivac/stats").await["passages"].as_u64().unwrap();
    replicas.other.until("/multivac/stats", |stats| stats["passages"].as_u64().unwrap() > before).await;
    for _ in 0..2 {
        if replicas.retract().await == 204 {
            shows_nothing(&program, &replicas.client).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    slow_down.join().unwrap();
    replicas.retract_everywhere().await;
    shows_nothing(&program, &replicas.client).await;
    program.kill();
    replicas.clean_up().await;
}
