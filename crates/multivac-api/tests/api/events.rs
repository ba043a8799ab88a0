//! `GET /multivac/events`: the answer and the ledger, first as they are and then whenever they change.

use std::time::{Duration, Instant};

use multivac_testkit::http::{Connection, get, send};
use reqwest::Method;
use serde_json::{Value, json};

use crate::event_client::Events;
use crate::test_app::TestApp;

const PENGUINS: &str = "/multivac/events?question=What+do+penguins+eat%3F";
const KRILL: &str = "Penguins eat krill and small fish.";

/// Opens the stream of a running application.
async fn open(app: &TestApp, path: &str, last_event_id: Option<&str>) -> Events {
    Events::open(&app.client, &format!("{}{path}", app.base), last_event_id).await
}

async fn retract(app: &TestApp, id: &str) {
    let reply = app.request(Method::DELETE, &format!("/multivac/data/{id}")).send().await.unwrap();
    assert_eq!(reply.status(), 204);
}

#[actix_web::test]
async fn the_present_state_comes_first_and_then_each_change_with_what_tipped_it() {
    let app = TestApp::start(&[]).await;
    let mut events = open(&app, PENGUINS, None).await;
    let first = events.next().await.unwrap();
    assert!(events.retry.is_some_and(|ms| (500..2_000).contains(&ms)));
    assert_eq!((first.name.as_str(), &first.data["status"]), ("answer", &json!("insufficient_data")));
    assert_eq!((&first.data["before"], &first.data["because"]), (&Value::Null, &Value::Null));
    assert_eq!(first.data["question"], "What do penguins eat?");
    let stats = events.next().await.unwrap();
    assert_eq!((stats.name.as_str(), stats.id, stats.data), ("stats", None, app.json("/multivac/stats").await));

    let id = app.teach(KRILL).await;
    let learned = events.next_answer().await;
    assert_eq!(learned.data["answer"], KRILL);
    assert_eq!(learned.data["because"], json!({"id": id, "kind": "learned"}));
    let mut before = first.data.clone();
    before.as_object_mut().unwrap().retain(|field, _| field != "before" && field != "because");
    assert_eq!(learned.data["before"], before);
    assert_ne!(learned.id, first.id);

    retract(&app, &id).await;
    let retracted = events.next_answer().await;
    assert_eq!(retracted.data["status"], "insufficient_data");
    assert_eq!(retracted.data["because"], json!({"id": id, "kind": "retracted"}));
    assert_eq!(retracted.data["before"]["answer"], KRILL);
    app.stop().await;
}

#[actix_web::test]
async fn the_standing_question_is_watched_if_none_is_given_and_a_datum_about_something_else_changes_nothing() {
    let app = TestApp::start(&["--question", "What do penguins eat?"]).await;
    let mut events = open(&app, "/multivac/events", None).await;
    let mut same = open(&app, PENGUINS, None).await;
    assert_eq!(events.next_answer().await, same.next_answer().await, "it is one question, however it is asked");
    let id = app.teach(KRILL).await;
    assert_eq!(events.next_answer().await.data["because"]["id"], *id);
    app.teach("Multivac was built by Adell and Lupov.").await;
    app.teach(KRILL).await;
    assert_eq!(events.answers_until(|stats| stats["learned"] == 3).await, [], "the same text again is no change");
    app.stop().await;
}

#[actix_web::test]
async fn the_ledger_comes_at_most_once_a_second_and_is_always_balanced() {
    let app = TestApp::start(&[]).await;
    let mut events = open(&app, "/multivac/events", None).await;
    let first = events.next_of("stats").await;
    let started = Instant::now();
    let feeding = async {
        for n in 0..60 {
            app.feed(&format!("Star number {n} went out.")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reading = async {
        let (mut seen, mut last) = (1, first.data.clone());
        while last["learned"] != 60 {
            let stats = events.next_of("stats").await.data;
            let sum: u64 = ["queued", "processing", "learned", "retracted", "dead"]
                .iter()
                .map(|f| stats[f].as_u64().unwrap())
                .sum();
            assert_eq!(stats["accepted"], sum, "{stats}");
            assert_ne!(stats, last, "only when it has changed");
            (seen, last) = (seen + 1, stats);
        }
        seen
    };
    let ((), seen) = tokio::join!(feeding, reading);
    // The first at once, then one in each second that has begun.
    assert!(seen >= 3 && seen <= 2 + started.elapsed().as_secs(), "{seen} in {:?}", started.elapsed());
    app.stop().await;
}

#[actix_web::test]
async fn who_comes_back_within_a_minute_is_sent_every_change_that_was_missed() {
    let app = TestApp::start(&[]).await;
    let mut events = open(&app, PENGUINS, None).await;
    let first = events.next_answer().await;
    drop(events);
    // Nobody watches.
    let one = app.teach(KRILL).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let two = app.teach("Penguins eat squid. Penguins eat squid every day, and penguins eat squid at night.").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    retract(&app, &two).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut events = open(&app, PENGUINS, first.id.as_deref()).await;
    let missed = events.answers_until(|_| true).await;
    assert!(!missed.is_empty());
    assert_eq!(missed[0].data["before"]["status"], "insufficient_data");
    assert_eq!((&missed[0].data["answer"], &missed[0].data["because"]["id"]), (&json!(KRILL), &json!(one)));
    assert_eq!(missed.last().unwrap().data["answer"], KRILL);
    // What was retracted is not shown any more, not even as what was missed; that it was is told.
    assert!(missed.iter().all(|event| !event.data["answer"].to_string().contains("squid")), "{missed:?}");
    assert_eq!(missed.last().unwrap().data["because"], json!({"id": two, "kind": "retracted"}));
    drop(events);
    // Who has missed nothing is told nothing again.
    let mut events = open(&app, PENGUINS, missed.last().unwrap().id.as_deref()).await;
    assert_eq!(events.answers_until(|_| true).await, []);
    retract(&app, &one).await;
    assert_eq!(events.next_answer().await.data["because"], json!({"id": one, "kind": "retracted"}));
    app.stop().await;
}

#[actix_web::test]
async fn an_id_that_is_not_known_gets_the_present_state() {
    let app = TestApp::start(&[]).await;
    app.teach(KRILL).await;
    let known = open(&app, PENGUINS, None).await.next_answer().await.id.unwrap();
    let other = open(&app, "/multivac/events", None).await.next_answer().await.id.unwrap();
    let later = known.replace("-0", "-7");
    let upper = known.to_uppercase();
    for id in [
        "",
        "1",
        "x",
        "-1",
        "0-0",
        "ffffffffffffffff-0",
        &other,
        &later,
        &format!("+{known}"),
        &format!("{known} "),
        &upper.repeat(300),
    ] {
        let first = open(&app, PENGUINS, Some(id)).await.next().await.unwrap();
        // White space around a header's value is not part of it.
        let is_known = id.trim() == known;
        assert_eq!(first.name == "answer", !is_known, "{id}");
        if !is_known {
            assert_eq!((&first.data["answer"], &first.data["before"]), (&json!(KRILL), &Value::Null), "{id}");
        }
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_question_that_cannot_be_asked_cannot_be_watched() {
    let app = TestApp::start(&[]).await;
    for question in ["", "+", "%20%09", "%ff", &"x".repeat(1_001)] {
        let reply = send(&app.base, get(&format!("/multivac/events?question={question}"))).await.unwrap();
        reply.problem(400);
    }
    open(&app, &format!("/multivac/events?question={}", "x".repeat(1_000)), None).await.next_answer().await;
    app.stop().await;
}

#[actix_web::test]
async fn more_different_questions_than_may_be_watched_are_refused_until_one_is_left() {
    let app = TestApp::start(&["--max-watched", "2"]).await;
    let path = |n: usize| format!("/multivac/events?question=Number+{n}");
    let mut one = open(&app, &path(1), None).await;
    let two = open(&app, &path(2), None).await;
    let refused = send(&app.base, get(&path(3))).await.unwrap();
    assert!(refused.problem(429).contains("watched"));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    // The same again, and the standing one, are no others.
    open(&app, &path(1), None).await.next_answer().await;
    open(&app, "/multivac/events", None).await.next_answer().await;
    one.next_answer().await;
    let head = "HEAD /multivac/events?question=Number+3 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(send(&app.base, head).await.unwrap().status, 429);
    drop(two);
    multivac_testkit::wait::until("the place is free", async || send(&app.base, head).await.unwrap().status == 200)
        .await;
    open(&app, &path(3), None).await.next_answer().await;
    app.stop().await;
}

#[actix_web::test]
async fn the_head_says_what_proxies_need_and_head_alone_does_not_hang() {
    let app = TestApp::start(&[]).await;
    for method in ["GET", "HEAD"] {
        let mut connection = Connection::open(&app.base).await.unwrap();
        // Whatever a client says that it accepts.
        let request =
            format!("{method} /multivac/events HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
        connection.send(&request).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            use tokio::io::AsyncBufReadExt;
            assert_ne!(connection.reader.read_line(&mut head).await.unwrap(), 0, "{head}");
        }
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for header in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
            assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
        }
        if method == "HEAD" {
            // The connection goes on.
            assert_eq!(connection.exchange(get("/healthz")).await.unwrap().status, 200);
        }
    }
    app.stop().await;
}
