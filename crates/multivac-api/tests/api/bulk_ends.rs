//! Bulk requests that do not end well: the reply says what was accepted, and sending all again adds what is missing.

use multivac_testkit::backends::SharedServers;
use multivac_testkit::http::{Connection, Reply, send};
use serde_json::Value;

use crate::test_app::TestApp;

fn head(fields: &str) -> String {
    format!(
        "POST /multivac/data/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n{fields}\r\n"
    )
}

fn bulk(body: &str) -> String {
    format!("{}{body}", head(&format!("Content-Length: {}\r\n", body.len())))
}

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n", body.len())
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"data\": \"datum number {n}\"}}\n")).collect()
}

/// How many were accepted, and the line to go on with; each id is that of a datum.
async fn outcome(app: &TestApp, reply: &Value) -> (u64, u64) {
    let ids = reply["ids"].as_array().unwrap();
    assert_eq!(ids.len() as u64, reply["accepted"], "{reply}");
    for id in ids {
        assert_eq!(app.json(&format!("/multivac/data/{}", id.as_str().unwrap())).await["id"], *id);
    }
    (ids.len() as u64, reply["next_line"].as_u64().unwrap())
}

#[actix_web::test]
async fn a_body_that_breaks_off_is_told_what_was_accepted_of_it() {
    let app = TestApp::start(&[]).await;
    let good = format!("{}nonsense\n{}{{\"data\": \"cut", lines(1..3), lines(4..6));
    // Malformed chunks; an end before the announced one; one within the chunks.
    let broken = format!("{}{}zz\r\n", head("Transfer-Encoding: chunked\r\n"), chunk(&good));
    let short = format!("{}{good}", head("Content-Length: 1000\r\n"));
    let within = format!("{}{}5\r\nx", head("Transfer-Encoding: chunked\r\n"), chunk(&good));
    let mut accepted = 0;
    for (request, ends) in [(broken, false), (short, true), (within, true)] {
        let mut connection = Connection::open(&app.base).await.unwrap();
        connection.send(&request).await.unwrap();
        if ends {
            tokio::io::AsyncWriteExt::shutdown(&mut connection.writer).await.unwrap();
        }
        let reply = connection.reply().await.unwrap();
        assert!(reply.problem(400).contains("breaks off"), "{reply:?}");
        let reply = reply.json().unwrap();
        assert_eq!(outcome(&app, &reply).await, (4, 6), "{reply}");
        assert_eq!(reply["rejected"][0]["line"], 3, "{reply}");
        accepted += 4;
        assert_eq!(app.json("/multivac/stats").await["accepted"], accepted);
    }
    app.stop().await;
}

#[actix_web::test]
async fn sent_again_with_its_key_a_body_adds_what_is_missing() {
    let app = TestApp::start(&[]).await;
    let (all, key) = (lines(0..3_000), "Idempotency-Key: K\r\n");
    // The connection is lost after some steps of 1,000 lines.
    let mut connection = Connection::open(&app.base).await.unwrap();
    let length = format!("{key}Content-Length: {}\r\n", all.len());
    connection.send(format!("{}{}", head(&length), &all[..all.len() - 1_000])).await.unwrap();
    app.until("/multivac/stats", |stats| stats["accepted"].as_u64() >= Some(2_000)).await;
    drop(connection);
    let mut again = Vec::new();
    for _ in 0..2 {
        let reply = send(&app.base, format!("{}{all}", head(&length))).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        let reply = reply.json().unwrap();
        assert_eq!(
            (&reply["accepted"], &reply["rejected"], reply.get("next_line")),
            (&3_000.into(), &Value::from([0; 0]), None)
        );
        again.push(reply["ids"].clone());
    }
    assert_eq!(again[0], again[1]);
    let stats = app.until("/multivac/stats", |stats| stats["learned"] == 3_000).await;
    assert_eq!(stats["accepted"], 3_000);
    app.stop().await;
}

#[actix_web::test]
async fn once_the_queue_fails_no_later_line_is_tried() {
    let Some(servers) = SharedServers::find() else { return };
    let flags = servers.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--max-queued", "1500"]).collect();
    let app = TestApp::start(&flags).await;
    let reply = send(&app.base, bulk(&lines(0..12_000))).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json().unwrap();
    assert_eq!(outcome(&app, &reply).await, (1_500, 2_001));
    // Each line is accepted, or rejected, or comes after `next_line`.
    let rejected = reply["rejected"].as_array().unwrap();
    assert_eq!(
        (&rejected[0]["line"], rejected.len(), &reply["rejected_in_all"]),
        (&1_501.into(), 10_000, &10_500.into())
    );
    assert!(rejected[0]["detail"].as_str().unwrap().contains("full"), "{}", rejected[0]);
    assert!(rejected[500]["detail"].as_str().unwrap().contains("not tried"), "{}", rejected[500]);
    app.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn a_body_of_another_kind_is_refused_as_what_it_is() {
    let app = TestApp::start(&[]).await;
    let good = lines(1..2);
    let pretty = serde_json::to_string_pretty(&serde_json::json!({ "data": "x" })).unwrap();
    let cr_only = lines(0..20_000).replace('\n', "\r");
    for (body, kind) in [
        (format!("[{}]", good.trim()).as_str(), "JSON array"),
        (&format!("[\n  {},\n  {}\n]\n", good.trim(), good.trim()), "JSON array"),
        (&format!("\u{feff}\n[{},\n{good}]", good.trim()), "JSON array"),
        (&format!("\u{1e}{good}\u{1e}{good}"), "JSON text sequence"),
        (&cr_only, "CR alone"),
        (&format!("{},\n{}", good.trim(), good), "commas"),
        (&format!("{pretty}\n{pretty}\n"), "several lines"),
        (&format!("id,data\n{}", "1,hello\n".repeat(10_000)), "CSV"),
        ("Stars go out.\nMoons fall down.\n", "plain text"),
    ] {
        let reply: Reply = send(&app.base, bulk(body)).await.unwrap();
        let detail = reply.problem(400);
        assert!(detail.contains(kind) && detail.contains("nothing was accepted"), "{kind}: {detail}");
    }
    assert_eq!(app.json("/multivac/stats").await["accepted"], 0);
    app.stop().await;
}

#[actix_web::test]
async fn a_bad_line_is_named_by_its_own_number() {
    let app = TestApp::start(&[]).await;
    let body = format!(
        "\u{feff}\n[\"x\"]\n\"x\"\n1\nnull\n{}\r\n{{\"data\": x}}\n\u{feff}{},\n,\n{{\"data\":\"a\",\"data\":\"b\"}}\n{{\"data\":\"\u{200b}\"}}",
        lines(6..7).trim(),
        lines(8..9).trim(),
    );
    let reply = send(&app.base, bulk(&body)).await.unwrap().json().unwrap();
    assert_eq!(reply["accepted"], 1, "{reply}");
    let told: Vec<(u64, &str)> = reply["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(told.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4, 5, 7, 8, 9, 10, 11], "{told:?}");
    for (line, detail) in told {
        assert!(!detail.contains(" line 1"), "{line}: {detail}");
        let expected = match line {
            2..=5 => "expected an object {\"data\":",
            7..=9 => "malformed JSON at column ",
            10 => "more than once",
            _ => "empty",
        };
        assert!(detail.starts_with(expected) || detail.contains(expected), "{line}: {detail}");
    }
    app.stop().await;
}
