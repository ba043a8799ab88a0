//! The four routes of the original application, byte for byte.

use reqwest::Method;
use reqwest::multipart::Form;
use serde_json::Value;

use crate::test_app::TestApp;

const TEXT: &str = "text/plain; charset=utf-8";

async fn is_text(app: &TestApp, path: &str, expected: &str) {
    let reply = app.get(path).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], TEXT);
    assert_eq!(reply.bytes().await.unwrap(), expected.as_bytes());
}

#[actix_web::test]
async fn the_texts_are_those_of_the_original_application() {
    let app = TestApp::start(&[]).await;
    is_text(&app, "/", "Welcome to MultiVAC!").await;
    is_text(&app, "/multivac", "INSUFFICIENT DATA FOR MEANINGFUL ANSWER.").await;
    is_text(&app, "/zzz", "LET THERE BE LIGHT!").await;
    is_text(&app, "/zzz/", "LET THERE BE LIGHT!").await;
    app.stop().await;
}

#[actix_web::test]
async fn head_is_get_without_the_body() {
    let app = TestApp::start(&[]).await;
    let reply = app.request(Method::HEAD, "/zzz").send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers()["content-length"].to_str().unwrap()), (200, "19"));
    assert!(reply.bytes().await.unwrap().is_empty());
    app.stop().await;
}

#[actix_web::test]
async fn a_browser_gets_the_console() {
    let app = TestApp::start(&[]).await;
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let reply = app.request(Method::GET, "/").header("Accept", accept).send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], "text/html; charset=utf-8");
    assert!(reply.text().await.unwrap().contains("<title>MultiVAC</title>"));
    app.stop().await;
}

#[actix_web::test]
async fn data_are_taken_in_every_listed_form() {
    let app = TestApp::start(&[]).await;
    let post = || app.request(Method::POST, "/multivac/data");
    let text = "Entropy & 100 % of it,\r\nreversed: é 🌌";
    let forms = [
        post().form(&[("other", "x"), ("data", text)]),
        post().multipart(Form::new().text("other", "x").text("data", text)),
        post().json(&serde_json::json!({ "data": text })),
        post().header("Content-Type", "text/plain").body(text),
        post().header("Content-Type", "text/plain; charset=UTF-8").body(text),
        // White space around the semicolon, and the case of the type, as RFC 9110 has them.
        post().header("Content-Type", "text/plain ; charset=utf-8").body(text),
        post().header("Content-Type", "Text/Plain;charset=\"utf-8\" ; format=flowed").body(text),
    ];
    for form in forms {
        let reply = form.send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let location = reply.headers()["location"].to_str().unwrap().to_owned();
        let body = reply.text().await.unwrap();
        let id = serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(body, format!(r#"{{"response":"MultiVAC updated!","id":"{id}"}}"#));
        assert_eq!(location, format!("/multivac/data/{id}"));
        app.until(&location, |datum| datum["status"] == "processed").await;
    }
    assert_eq!(app.json("/multivac/stats").await["learned"], 7);
    app.stop().await;
}
