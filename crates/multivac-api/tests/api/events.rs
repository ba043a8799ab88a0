//! `GET /multivac/events`: the answer and the ledger, first as they are and then whenever they change.

use std::time::{Duration, Instant};

use multivac_testkit::TEST_TIMEOUT;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::test_app::TestApp;

const PENGUINS: &str = "/multivac/events?question=What+do+penguins+eat%3F";
const KRILL: &str = "Penguins eat krill and small fish.";

/// One event, as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// An event stream that is read.
pub(crate) struct Events {
    reply: Response,
    unread: String,
    /// Milliseconds to wait before coming back, once the stream has said them.
    pub(crate) retry: Option<u64>,
    pub(crate) comments: usize,
}

impl Events {
    pub(crate) async fn open(app: &TestApp, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = app.request(Method::GET, path).header("Accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
        Self::of(reply)
    }

    pub(crate) fn of(reply: Response) -> Self {
        Self { reply, unread: String::new(), retry: None, comments: 0 }
    }

    /// The next event; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let mut event = Event { name: String::new(), id: None, data: Value::Null };
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("retry", ms)) => self.retry = Some(ms.parse().unwrap()),
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = Some(id.to_owned()),
                        Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                        _ if line.starts_with(':') => self.comments += 1,
                        _ => panic!("no line of an event: {line:?}"),
                    }
                }
                self.unread = rest.to_owned();
                if event.data != Value::Null {
                    return Some(event);
                }
            }
            let chunk = timeout(TEST_TIMEOUT, self.reply.chunk()).await.expect("an event or an end in time");
            self.unread.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    /// The next event of this name; others are passed over.
    pub(crate) async fn next_of(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name == name {
                return event;
            }
        }
    }

    pub(crate) async fn next_answer(&mut self) -> Event {
        self.next_of("answer").await
    }

    /// Waits until the ledger is as `condition` says, and tells what answers came by then.
    async fn answers_until(&mut self, condition: impl Fn(&Value) -> bool) -> Vec<Event> {
        let mut answers = Vec::new();
        loop {
            let event = self.next().await.expect("the stream goes on");
            match event.name.as_str() {
                "stats" if condition(&event.data) => return answers,
                "answer" => answers.push(event),
                _ => {}
            }
        }
    }
}

async fn retract(app: &TestApp, id: &str) {
    let reply = app.request(Method::DELETE, &format!("/multivac/data/{id}")).send().await.unwrap();
    assert_eq!(reply.status(), 204);
}

#[actix_web::test]
async fn the_present_state_comes_first_and_then_each_change_with_what_tipped_it() {
    let app = TestApp::start(&[]).await;
    let mut events = Events::open(&app, PENGUINS, None).await;
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
    let mut events = Events::open(&app, "/multivac/events", None).await;
    let mut same = Events::open(&app, PENGUINS, None).await;
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
    let mut events = Events::open(&app, "/multivac/events", None).await;
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
    let mut events = Events::open(&app, PENGUINS, None).await;
    let first = events.next_answer().await;
    drop(events);
    // Nobody watches.
    let one = app.teach(KRILL).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let two = app.teach("Penguins eat squid. Penguins eat squid every day, and penguins eat squid at night.").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    retract(&app, &two).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut events = Events::open(&app, PENGUINS, first.id.as_deref()).await;
    let missed = events.answers_until(|_| true).await;
    assert!(!missed.is_empty());
    assert_eq!(missed[0].data["before"]["status"], "insufficient_data");
    assert_eq!((&missed[0].data["answer"], &missed[0].data["because"]["id"]), (&json!(KRILL), &json!(one)));
    assert_eq!(missed.last().unwrap().data["answer"], KRILL);
    drop(events);
    // Who has missed nothing is told nothing again.
    let mut events = Events::open(&app, PENGUINS, missed.last().unwrap().id.as_deref()).await;
    assert_eq!(events.answers_until(|_| true).await, []);
    retract(&app, &one).await;
    assert_eq!(events.next_answer().await.data["because"], json!({"id": one, "kind": "retracted"}));
    app.stop().await;
}

#[actix_web::test]
async fn an_id_that_is_not_known_gets_the_present_state() {
    let app = TestApp::start(&[]).await;
    app.teach(KRILL).await;
    let known = Events::open(&app, PENGUINS, None).await.next_answer().await.id.unwrap();
    let other = Events::open(&app, "/multivac/events", None).await.next_answer().await.id.unwrap();
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
        let first = Events::open(&app, PENGUINS, Some(id)).await.next().await.unwrap();
        // White space around a header's value is not part of it.
        let is_known = id.trim() == known;
        assert_eq!(first.name == "answer", !is_known, "{id}");
        if !is_known {
            assert_eq!((&first.data["answer"], &first.data["before"]), (&json!(KRILL), &Value::Null), "{id}");
        }
    }
    app.stop().await;
}
