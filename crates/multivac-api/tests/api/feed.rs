//! Feeding one datum, and what is known of it afterwards.

use reqwest::Method;

use crate::test_app::TestApp;

#[actix_web::test]
async fn a_datum_can_be_looked_up() {
    let app = TestApp::start(&[]).await;
    let id = app.teach("One paragraph of this text stands here.\n\nAnother paragraph of it stands there.").await;
    let datum = app.json(&format!("/multivac/data/{id}")).await;
    assert_eq!((&datum["id"], &datum["passages"]), (&id.as_str().into(), &2.into()));
    for moment in ["received_at", "processed_at"] {
        assert!(datum[moment].as_str().unwrap().ends_with('Z'), "{datum}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn what_was_never_accepted_is_not_found() {
    let app = TestApp::start(&[]).await;
    for id in ["01a2070d-70f8-71de-8994-146c5af941d2", "6500010203040506070809ff", "nonsense"] {
        for method in [Method::GET, Method::DELETE] {
            let reply = app.request(method, &format!("/multivac/data/{id}")).send().await.unwrap();
            assert_eq!(reply.status(), 404, "{id}");
        }
    }
    app.stop().await;
}

#[actix_web::test]
async fn the_same_idempotency_key_is_the_same_datum() {
    let app = TestApp::start(&[]).await;
    let feed = |key: &'static str| {
        let request = app.request(Method::POST, "/multivac/data").header("Idempotency-Key", key);
        async { request.form(&[("data", "once")]).send().await.unwrap().text().await.unwrap() }
    };
    let first = feed("a").await;
    let (again, at_once) = tokio::join!(feed("a"), feed("a"));
    assert_eq!((&again, &at_once), (&first, &first));
    assert_ne!(feed("b").await, first);
    let stats = app.until("/multivac/stats", |stats| stats["learned"] == 2).await;
    assert_eq!(stats["accepted"], 2);
    app.stop().await;
}

#[actix_web::test]
async fn the_ledger_balances_in_every_reply() {
    let app = TestApp::start(&[]).await;
    let feeding = async {
        for n in 0..300 {
            app.feed(&format!("datum number {n}")).await;
        }
    };
    let watching = app.until("/multivac/stats", |stats| {
        let count = |name: &str| stats[name].as_u64().unwrap();
        let sum = ["queued", "processing", "learned", "retracted", "dead"].map(count).iter().sum::<u64>();
        assert_eq!(count("accepted"), sum, "{stats}");
        count("learned") == 300
    });
    tokio::join!(feeding, watching);
    app.stop().await;
}

#[actix_web::test]
async fn operators_see_health_metrics_and_the_description() {
    let app = TestApp::start(&[]).await;
    app.teach("something").await;
    assert_eq!(app.get("/healthz").await.status(), 200);
    let metrics = app.get("/metrics").await;
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let metrics = metrics.text().await.unwrap();
    for line in ["multivac_data{state=\"learned\"} 1", "multivac_accepted_total", "multivac_index_following 1"] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let description = app.json("/openapi.json").await;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "01a2070d-70f8-71de-8994-146c5af941d2");
        for method in methods.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let reply = app.request(method, &path).send().await.unwrap();
            assert_ne!(reply.status(), 405, "{path}");
            assert!(reply.status() != 404 || path.contains("01a2"), "{path}");
        }
    }
    app.stop().await;
}
