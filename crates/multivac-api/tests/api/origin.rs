//! Requests that a browser sends for another site's page are refused; scripts/browser.sh sends them with a real one.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::test_app::TestApp;

/// The problem that a request gets, which has to be 403.
async fn refusal(request: RequestBuilder) -> String {
    let reply = request.send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), reply.headers()["content-type"].to_str().unwrap()),
        (403, "application/problem+json")
    );
    let problem: Value = reply.json().await.unwrap();
    assert_eq!((problem["status"].as_u64(), problem["title"].as_str()), (Some(403), Some("Forbidden")));
    assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32));
    problem["detail"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn writes_for_another_site_are_refused_on_every_path_and_change_nothing() {
    let app = TestApp::start(&[]).await;
    let id = app.teach("Stars go out.").await;
    let before = app.json("/multivac/stats").await;
    let datum = format!("/multivac/data/{id}");
    for (method, path) in [
        (Method::POST, "/multivac/data"),
        (Method::POST, "/multivac/data/bulk"),
        (Method::DELETE, &datum),
        (Method::PUT, "/multivac"),
        (Method::PATCH, "/nothing"),
    ] {
        for (name, value) in [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "null"),
            ("Origin", "https://evil.test"),
        ] {
            let request = app.request(method.clone(), path).header(name, value).header("Content-Type", "text/plain");
            assert!(refusal(request.body("evil")).await.contains("another site"), "{method} {path} {name}: {value}");
        }
    }
    assert_eq!(app.json("/multivac/stats").await, before);
    // They count as what they were.
    let metrics = app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let refused = |path: &str| {
        let is_one = |line: &&str| line.contains(&format!("route=\"{path}\"")) && line.contains("status=\"403\"");
        metrics.lines().filter(|line| line.contains("_request_seconds_count")).any(|line| is_one(&line))
    };
    for path in ["/multivac/data", "/multivac/data/bulk", "/multivac/data/{id}", "/multivac", "none"] {
        assert!(refused(path), "{path}");
    }
    // Reading is open: the page that asks cannot see the reply.
    for (name, value) in [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.test")] {
        let reply = app.request(Method::GET, "/multivac").header(name, value).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        assert!(!reply.headers().keys().any(|name| name.as_str().starts_with("access-control")));
    }
    // The server's own pages, and programs.
    for (name, value) in [("Sec-Fetch-Site", "same-origin"), ("Origin", &app.base), ("Accept", "*/*")] {
        let request = app.request(Method::POST, "/multivac/data").header(name, value);
        assert_eq!(request.form(&[("data", "Stars go on.")]).send().await.unwrap().status(), 200, "{name}: {value}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_loopback_listener_serves_only_the_names_that_it_knows() {
    let app = TestApp::start(&["--allowed-hosts", "multivac.example.org"]).await;
    for path in ["/", "/multivac", "/multivac/stats", "/metrics", "/healthz", "/nothing"] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::DELETE] {
            let foreign = app.request(method.clone(), path).header("Host", "evil.test:5000");
            if method == Method::HEAD {
                assert_eq!(foreign.send().await.unwrap().status(), 403, "{path}");
            } else {
                assert!(refusal(foreign).await.contains("--allowed-hosts"), "{method} {path}");
            }
            for host in ["localhost", "127.0.0.1:1", "[::1]", "multivac.example.org:8443"] {
                let reply = app.request(method.clone(), path).header("Host", host).send().await.unwrap();
                assert_ne!(reply.status(), 403, "{method} {path} {host}");
            }
        }
    }
    app.stop().await;
}
