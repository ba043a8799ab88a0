//! Feeding many.

use reqwest::{Body, Method, Response};
use serde_json::Value;

use crate::test_app::TestApp;

async fn bulk(app: &TestApp, key: Option<&str>, body: impl Into<Body>) -> Response {
    let mut request = app.request(Method::POST, "/multivac/data/bulk").header("Content-Type", "application/x-ndjson");
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    request.body(body).send().await.unwrap()
}

#[actix_web::test]
async fn good_lines_are_accepted_and_bad_lines_are_named() {
    let app = TestApp::start(&["--max-datum-size", "100"]).await;
    let long = format!("{{\"data\": \"{}\"}}", "x".repeat(101));
    let body = format!(
        "{{\"data\": \"one\"}}\n\n  \r\nnonsense\n{{\"data\": \" \"}}\n{long}\n{{\"data\": \"two\"}}\r\n{{\"data\": \"three\"}}"
    );
    let reply: Value = bulk(&app, None, body).await.json().await.unwrap();
    assert_eq!(reply["accepted"], 3);
    assert_eq!(reply["ids"].as_array().unwrap().len(), 3);
    let lines: Vec<_> = reply["rejected"].as_array().unwrap().iter().map(|r| r["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [4, 5, 6]);
    assert!(reply["rejected"][0]["detail"].as_str().unwrap().contains("JSON"));
    app.until("/multivac/stats", |stats| stats["learned"] == 3).await;
    app.stop().await;
}

#[actix_web::test]
async fn bytes_that_are_not_utf8_make_only_their_own_line_bad() {
    let app = TestApp::start(&[]).await;
    let body = [b"{\"data\": \"\xff\"}\n".as_slice(), b"{\"data\": \"fine\"}\n"].concat();
    let reply: Value = bulk(&app, None, body).await.json().await.unwrap();
    assert_eq!((&reply["accepted"], &reply["rejected"][0]["line"]), (&1.into(), &1.into()));
    app.stop().await;
}

#[actix_web::test]
async fn thousands_are_taken_in_order_and_again_with_the_same_key() {
    let app = TestApp::start(&[]).await;
    let body: String = (0..5_000).map(|n| format!("{{\"data\": \"datum number {n}\"}}\n")).collect();
    let first: Value = bulk(&app, Some("key"), body.clone()).await.json().await.unwrap();
    assert_eq!((&first["accepted"], first["rejected"].as_array().unwrap().len()), (&5_000.into(), 0));
    let again: Value = bulk(&app, Some("key"), body).await.json().await.unwrap();
    assert_eq!(again, first);
    let stats = app.until("/multivac/stats", |stats| stats["learned"] == 5_000).await;
    assert_eq!(stats["accepted"], 5_000);
    app.stop().await;
}

#[actix_web::test]
async fn a_line_with_a_key_of_its_own_is_one_datum_in_whichever_request_it_comes() {
    let app = TestApp::start(&[]).await;
    let keyed = |text: &str, key: &str| format!("{{\"data\": \"{text}\", \"idempotency_key\": \"{key}\"}}\n");
    let first: Value = bulk(&app, None, keyed("one", "a") + &keyed("two", "b")).await.json().await.unwrap();
    assert_eq!((&first["accepted"], &first["known"]), (&2.into(), &0.into()));
    // In another order, beside a line without one, and whatever key the request has.
    let body = keyed("three", "c") + "{\"data\": \"four\"}\n" + &keyed("two", "b");
    let again: Value = bulk(&app, Some("request"), body).await.json().await.unwrap();
    assert_eq!((&again["accepted"], &again["known"]), (&3.into(), &1.into()));
    assert_eq!(again["ids"][2], first["ids"][1]);
    // The same as a request's own key.
    let single = app.request(Method::POST, "/multivac/data").header("Idempotency-Key", "a").body("one");
    let single: Value = single.header("Content-Type", "text/plain").send().await.unwrap().json().await.unwrap();
    assert_eq!(single["id"], first["ids"][0]);
    // Another text under the same key is the line's own fault.
    let other: Value = bulk(&app, None, keyed("other", "a") + &keyed("one", "a")).await.json().await.unwrap();
    assert_eq!((&other["accepted"], &other["known"]), (&1.into(), &1.into()));
    let detail = other["rejected"][0].as_object().unwrap();
    assert!(detail["detail"].as_str().unwrap().contains("another text") && !detail.contains_key("retry_after"));
    app.until("/multivac/stats", |stats| stats["learned"] == 4).await;
    app.stop().await;
}

#[actix_web::test]
async fn a_key_that_is_none_makes_only_its_own_line_bad() {
    let app = TestApp::start(&[]).await;
    let long = "k".repeat(256);
    let body = format!(
        "{{\"data\": \"a\", \"idempotency_key\": 5}}\n{{\"data\": \"b\", \"idempotency_key\": \"\"}}\n{{\"data\": \"c\", \"idempotency_key\": \"{long}\"}}\n\
         {{\"data\": \"d\", \"idempotency_key\": \"\u{e9}\"}}\n{{\"data\": \"e\", \"idempotency_key\": \"x\", \"idempotency_key\": \"y\"}}\n\
         {{\"data\": \"f\", \"idempotency_key\": null}}\n"
    );
    let reply: Value = bulk(&app, None, body).await.json().await.unwrap();
    assert_eq!((&reply["accepted"], reply.get("known")), (&1.into(), None), "{reply}");
    let rejected = reply["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 5);
    assert!(rejected.iter().all(|line| line["detail"].as_str().unwrap().contains("key")), "{reply}");
    app.stop().await;
}

#[actix_web::test]
async fn lines_that_a_full_queue_did_not_take_say_when_to_come_again() {
    let app = TestApp::start(&["--max-queued", "3"]).await;
    let body: String = (0..500).map(|n| format!("{{\"data\": \"datum {n}\"}}\n")).collect();
    let reply: Value = bulk(&app, None, body).await.json().await.unwrap();
    let rejected = reply["rejected"].as_array().unwrap();
    assert!(!rejected.is_empty() && reply["accepted"].as_u64() > Some(0), "{reply}");
    assert!(rejected.iter().all(|line| line["retry_after"].as_u64() >= Some(1)), "{reply}");
    app.stop().await;
}

#[actix_web::test]
async fn another_content_type_is_refused() {
    let app = TestApp::start(&[]).await;
    let request = app.request(Method::POST, "/multivac/data/bulk").json(&serde_json::json!({ "data": "x" }));
    assert_eq!(request.send().await.unwrap().status(), 415);
    app.stop().await;
}

#[actix_web::test]
async fn an_empty_body_holds_no_data() {
    let app = TestApp::start(&[]).await;
    let reply: Value = bulk(&app, None, "").await.json().await.unwrap();
    assert_eq!(reply, serde_json::json!({ "accepted": 0, "rejected": [], "ids": [] }));
    app.stop().await;
}
