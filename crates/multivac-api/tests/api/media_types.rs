//! Media types, codings and preferences are compared as RFC 9110 says.

use multivac_testkit::http::{Reply, feed, get, send};

use crate::test_app::TestApp;

async fn post(app: &TestApp, fields: &str) -> Reply {
    let request = feed("text/plain", "Stars go out.").replace("Content-Type: text/plain", fields);
    send(&app.base, request).await.unwrap()
}

#[actix_web::test]
async fn a_body_is_taken_however_its_type_and_coding_are_written() {
    let app = TestApp::start(&[]).await;
    for fields in [
        "Content-Type: TEXT/Plain",
        "content-type:text/plain ; charset = UTF-8 ; format=flowed",
        "Content-Type: text/plain; CHARSET=\"utf-8\"",
        r#"Content-Type: text/plain; charset="utf\-8""#,
        "Content-Type: text/plain; charset='utf-8'",
        "Content-Type: text/plain\r\nContent-Encoding: Identity",
        "Content-Type: text/plain\r\nContent-Encoding: identity, IDENTITY",
        "Content-Type: text/plain\r\nContent-Encoding: identity\r\nContent-Encoding: identity",
    ] {
        let reply = post(&app, fields).await;
        assert_eq!(reply.status, 200, "{fields}: {reply:?}");
    }
    for (fields, status) in [
        ("Content-Type: text/plain\r\nContent-Type: text/plain", 400),
        ("Content-Type: text/plain\r\nContent-Type: application/json", 400),
        ("Content-Type: text/plain\r\nContent-Encoding: identity\r\nContent-Encoding: gzip", 415),
        ("Content-Type: text/plain\r\nContent-Encoding: identity, gzip", 415),
        ("Content-Type: text/plain\r\nContent-Encoding: GZip", 415),
        ("Content-Type: text/plain; charset=\"utf-16\"", 415),
        ("Content-Type: text/plain; charset=utf-8; charset=latin1", 415),
        ("Content-Type: text/plainer", 415),
        ("Content-Type: \u{e9}", 415),
        ("X: y", 415),
    ] {
        post(&app, fields).await.problem(status);
    }
    let bulk = |media: &str| feed(media, "{\"data\": \"x\"}").replace("/multivac/data", "/multivac/data/bulk");
    assert_eq!(send(&app.base, bulk("Application/X-NDJSON; charset=\"UTF-8\"")).await.unwrap().status, 200);
    send(&app.base, bulk("application/x-ndjson; charset=latin1")).await.unwrap().problem(415);
    app.stop().await;
}

#[actix_web::test]
async fn a_reply_comes_in_the_form_that_is_wanted_most() {
    let app = TestApp::start(&[]).await;
    for (accept, media) in [
        ("X: y", "text/plain"),
        ("Accept: Application/JSON", "application/json"),
        ("Accept: text/html\r\nAccept: application/json", "application/json"),
        ("Accept: application/json;q=0, */*", "text/plain"),
        ("Accept: text/plain;q=0", "application/json"),
        ("Accept: text/plain;q=0, */*;q=0.1", "application/json"),
        ("Accept: application/*;q=0.9, text/plain;q=0.1, application/json;q=0.0", "text/plain"),
        ("Accept: */*;q=0", "text/plain"),
    ] {
        let request = get("/multivac").replace("Host: localhost", &format!("Host: localhost\r\n{accept}"));
        let reply = send(&app.base, request).await.unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").unwrap().starts_with(media), "{accept}: {reply:?}");
    }
    app.stop().await;
}
