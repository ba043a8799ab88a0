//! The contract's table of bad input, row by row.

use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::test_app::TestApp;

/// The status, which is to come as a problem of RFC 9457.
async fn refused(request: RequestBuilder) -> u16 {
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    let problem: Value = reply.json().await.unwrap();
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail", "trace_id"] {
        assert!(!problem[field].as_str().unwrap().is_empty(), "{field} in {problem}");
    }
    status
}

#[actix_web::test]
async fn a_body_without_an_acceptable_text_is_a_bad_request() {
    let app = TestApp::start(&[]).await;
    let post = || app.request(Method::POST, "/multivac/data");
    let form = |body: &'static str| post().header("Content-Type", "application/x-www-form-urlencoded").body(body);
    let json = |body: &'static str| post().header("Content-Type", "application/json").body(body);
    let text = |body: &'static [u8]| post().header("Content-Type", "text/plain").body(body);
    let bad = [
        form("other=x"),
        form(""),
        form("data="),
        form("data=+%20%0A"),
        form("data=%ff"),
        json("{\"data\": "),
        json("{}"),
        json("[]"),
        json("{\"data\": 1}"),
        json("{\"data\": \"\"}"),
        text(b""),
        text(b" \n"),
        text(b"\xff\xfe"),
        post().multipart(Form::new().text("other", "x")),
        post().multipart(Form::new().text("data", " ")),
        post().header("Content-Type", "multipart/form-data").body("no boundary"),
        post().header("Content-Type", "multipart/form-data; boundary=x").body("never that boundary"),
        form("data=x").header("Idempotency-Key", "k".repeat(256)),
    ];
    for (n, request) in bad.into_iter().enumerate() {
        assert_eq!(refused(request).await, 400, "number {n}");
    }
    assert_eq!(app.json("/multivac/stats").await["accepted"], 0);
    app.stop().await;
}

#[actix_web::test]
async fn a_datum_over_the_limit_is_too_large_in_every_form() {
    let app = TestApp::start(&["--max-datum-size", "1KiB"]).await;
    let post = || app.request(Method::POST, "/multivac/data");
    for (size, expected) in [(1_024, 200), (1_025, 413), (300_000, 413)] {
        // é would be twice as long: bytes count.
        let text = "x".repeat(size);
        let requests = [
            post().form(&[("data", &text)]),
            post().multipart(Form::new().text("data", text.clone())),
            post().json(&serde_json::json!({ "data": text })),
            post().header("Content-Type", "text/plain").body(text.clone()),
        ];
        for request in requests {
            let status =
                if expected == 200 { request.send().await.unwrap().status().as_u16() } else { refused(request).await };
            assert_eq!(status, expected, "{size} bytes");
        }
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_content_type_that_is_not_listed_is_refused() {
    let app = TestApp::start(&[]).await;
    let post = || app.request(Method::POST, "/multivac/data").body("<data>x</data>");
    let requests = [
        post(),
        post().header("Content-Type", "application/xml"),
        post().header("Content-Type", "text/html"),
        post().header("Content-Type", "text/plain; charset=latin-1"),
        post().header("Content-Type", "text/plain").header("Content-Encoding", "gzip"),
    ];
    for request in requests {
        assert_eq!(refused(request).await, 415);
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_question_has_1_to_1000_characters() {
    let app = TestApp::start(&[]).await;
    for bad in ["", " ", &"é".repeat(1_001)] {
        assert_eq!(refused(app.request(Method::GET, "/multivac").query(&[("question", bad)])).await, 400);
    }
    assert_eq!(refused(app.request(Method::GET, "/multivac?question=%ff")).await, 400);
    assert_eq!(app.ask(&"é".repeat(1_000)).await["status"], "insufficient_data");
    app.stop().await;
}

#[actix_web::test]
async fn a_method_that_a_path_does_not_have_gets_a_405_that_names_those_it_has() {
    let app = TestApp::start(&[]).await;
    let wrong = [
        (Method::POST, "/", "GET"),
        (Method::DELETE, "/multivac", "GET"),
        (Method::GET, "/multivac/data", "POST"),
        (Method::PUT, "/multivac/data", "POST"),
        (Method::GET, "/multivac/data/bulk", "POST"),
        (Method::POST, "/multivac/data/x", "DELETE"),
        (Method::PATCH, "/multivac/stats", "GET"),
        (Method::POST, "/zzz", "GET"),
        (Method::POST, "/metrics", "GET"),
    ];
    for (method, path, has) in wrong {
        let reply = app.request(method.clone(), path).send().await.unwrap();
        assert_eq!(reply.status(), 405, "{method} {path}");
        assert!(reply.headers()["allow"].to_str().unwrap().contains(has), "{method} {path}");
        assert_eq!(refused(app.request(method, path)).await, 405);
    }
    assert_eq!(refused(app.request(Method::GET, "/nothing")).await, 404);
    app.stop().await;
}

#[actix_web::test]
async fn the_trace_of_the_caller_is_continued() {
    let app = TestApp::start(&[]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = app.request(Method::GET, "/nothing").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    assert_eq!(request.send().await.unwrap().json::<Value>().await.unwrap()["trace_id"], trace);
    app.stop().await;
}
