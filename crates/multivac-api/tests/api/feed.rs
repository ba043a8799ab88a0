//! Feeding one datum, and what is known of it afterwards.

use reqwest::Method;
use serde_json::Value;

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
async fn an_idempotency_key_is_of_one_text_and_belongs_to_its_user() {
    let app = TestApp::start(&[]).await;
    let feed = |user: Option<&str>, text: &'static str| {
        let mut request = app.request(Method::POST, "/multivac/data").header("Idempotency-Key", "a");
        if let Some(user) = user {
            request = request.header("X-Multivac-User", user);
        }
        async move {
            let reply = request.form(&[("data", text)]).send().await.unwrap();
            (reply.status().as_u16(), reply.json::<Value>().await.unwrap())
        }
    };
    let id = |(status, reply): (u16, Value)| {
        assert_eq!(status, 200, "{reply}");
        reply["id"].as_str().unwrap().to_owned()
    };
    let (of_one, of_two, of_nobody) =
        (id(feed(Some("one"), "x").await), id(feed(Some("two"), "y").await), id(feed(None, "z").await));
    assert!(of_one != of_two && of_one != of_nobody && of_two != of_nobody);
    assert_eq!(id(feed(Some("one"), "x").await), of_one);
    assert_eq!(id(feed(Some(""), "z").await), of_nobody, "an empty name is none");
    for (user, text) in [(Some("one"), "y"), (Some("two"), "x"), (None, "x")] {
        let (status, problem) = feed(user, text).await;
        assert_eq!((status, &problem["status"]), (422, &422.into()), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("another text"), "{problem}");
    }

    // At the same time: whichever text comes first has the key.
    let texts = ["first", "second", "first", "second", "first", "second"];
    let replies = futures_util::future::join_all(texts.map(|text| feed(Some("three"), text))).await;
    let first = texts[replies.iter().position(|(status, _)| *status == 200).unwrap()];
    let ids: std::collections::BTreeSet<_> = std::iter::zip(texts, replies)
        .filter_map(|(text, reply)| {
            assert_eq!(reply.0, if text == first { 200 } else { 422 }, "{reply:?}");
            (text == first).then(|| id(reply))
        })
        .collect();
    assert_eq!(ids.len(), 1);

    // A line of a bulk request has a key of its own.
    let bulk = async |user: &str, lines: &'static str| {
        let request = app.request(Method::POST, "/multivac/data/bulk").header("Idempotency-Key", "b");
        let request = request.header("X-Multivac-User", user).header("Content-Type", "application/x-ndjson");
        request.body(lines).send().await.unwrap().json::<Value>().await.unwrap()
    };
    const LINES: &str = "{\"data\": \"one\"}\n{\"data\": \"two\"}\n";
    let of_one = bulk("one", LINES).await;
    assert_eq!(bulk("one", LINES).await, of_one);
    assert_ne!(bulk("two", LINES).await["ids"], of_one["ids"]);
    let changed = bulk("one", "{\"data\": \"one\"}\n{\"data\": \"three\"}\n").await;
    assert_eq!((&changed["accepted"], &changed["ids"][0]), (&1.into(), &of_one["ids"][0]), "{changed}");
    assert_eq!(changed["rejected"][0]["line"], 2, "{changed}");
    assert!(changed["rejected"][0]["detail"].as_str().unwrap().contains("another text"), "{changed}");
    app.until("/multivac/stats", |stats| stats["learned"] == 8).await;
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
    for line in ["multivac_data{state=\"learned\"} ", "multivac_accepted_total", "multivac_index_following 1"] {
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
