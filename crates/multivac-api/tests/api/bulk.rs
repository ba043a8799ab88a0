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
