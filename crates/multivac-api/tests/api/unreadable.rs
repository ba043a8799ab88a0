//! Requests that cannot be read: each gets a problem document, and what can be read is served however it is written.

use std::time::Duration;

use multivac_testkit::http::{Connection, feed, get, send};

use crate::test_app::TestApp;

#[actix_web::test]
async fn a_request_that_cannot_be_read_gets_a_problem_document() {
    let app = TestApp::start(&[]).await;
    let long_question = get(&format!("/multivac?question={}", "x".repeat(20_000)));
    let long_field = format!("GET /multivac HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many_fields: String = (0..200).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let many_fields = format!("GET /multivac HTTP/1.1\r\nHost: localhost\r\n{many_fields}\r\n");
    for (request, status) in [
        (get("/%zz").as_str(), 400),
        (&get("/%00"), 400),
        (&get("/../.."), 400),
        (&get("/multivac#a"), 400),
        (&get("/multivac?question=a b"), 400),
        (&get("/multi\0vac"), 400),
        (&get("multivac"), 400),
        (&get("/multivac").replace("HTTP/1.1", "HTTP/x"), 400),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("\r\n\r\nGET\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\0\u{5}hello, this would be TLS", 400),
        ("GET /multivac HTTP/1.1\r\n\r\n", 400),
        ("GET /multivac HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n", 400),
        ("GET /multivac HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n", 400),
        ("GET /multivac HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n", 400),
        ("GET /multivac HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n", 400),
        ("GET /multivac HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", 400),
        ("POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            400,
        ),
        ("POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            400,
        ),
        (
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n",
            400,
        ),
        (
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            400,
        ),
        ("POST /multivac/data HTTP/1.0\r\nContent-Type: text/plain\r\n\r\nhello", 400),
        ("get /multivac HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("BREW /multivac HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("TRACE /multivac HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("CONNECT x:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (&long_question, 414),
        ("POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nExpect: the-unexpected\r\n\r\n", 417),
        (&long_field, 431),
        (&many_fields, 431),
        ("GET /multivac\r\n", 505),
        ("GET /multivac HTTP/0.9\r\nHost: localhost\r\n\r\n", 505),
        ("GET /multivac HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ] {
        let name: String = request.chars().take(200).collect();
        let reply = send(&app.base, request).await.unwrap_or_else(|| panic!("no reply to {name:?}"));
        assert_eq!(reply.status, status, "{name:?}: {reply:?}");
        reply.problem(status);
        assert_eq!(reply.header("allow").is_some(), status == 405, "{name:?}");
    }
    assert_eq!(app.json("/multivac/stats").await["accepted"], 0);
    app.stop().await;
}

#[actix_web::test]
async fn a_question_that_is_sent_as_it_is_typed_is_answered() {
    let app = TestApp::start(&[]).await;
    app.teach("A \"café\" sells <coffee> & {tea}.").await;
    for question in ["What-sells-\"coffee\"?", "Was-verkauft-ein-Café?", "<a>{b}|c\\d^e`f", "100%", "%zz"] {
        let request = format!(
            "GET /multivac?question={question} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
        );
        let reply = send(&app.base, request).await.unwrap();
        assert_eq!(reply.status, 200, "{question}: {reply:?}");
        assert_eq!(reply.json().unwrap()["question"], question);
    }
    let reply = send(&app.base, b"GET /multivac?question=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(reply.problem(400).contains("UTF-8"));
    // A target as a proxy gets it, a newer minor version, and empty lines before a request.
    for request in [
        "GET http://localhost/zzz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /zzz HTTP/1.7\r\nHost: localhost\r\n\r\n",
        "GET /zzz HTTP/1.0\r\n\r\n",
        "\r\n\r\nGET /zzz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /zzz HTTP/1.1\nHost: localhost\n\n",
    ] {
        let reply = send(&app.base, request).await.unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (200, b"LET THERE BE LIGHT!".as_slice()), "{request:?}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_refusal_has_its_turn_behind_earlier_replies_and_ends_the_connection() {
    let app = TestApp::start(&[]).await;
    let mut connection = Connection::open(&app.base).await.unwrap();
    let before = [get("/zzz"), feed("text/plain", "Stars go out."), get("/{refused}")].concat();
    // What follows it could be a part of what cannot be read.
    let smuggled = feed("text/plain", "This is smuggled.");
    connection.send(format!("{before}GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n{smuggled}")).await.unwrap();
    for status in [200, 200, 404, 400] {
        let reply = connection.reply().await.unwrap();
        assert_eq!((reply.status, reply.closes()), (status, status == 400), "{reply:?}");
    }
    assert!(connection.ends_within(Duration::from_secs(5)).await);
    assert_eq!(app.json("/multivac/stats").await["accepted"], 1);
    // As the reply to HEAD it has no body.
    let mut connection = Connection::open(&app.base).await.unwrap();
    connection.send("HEAD /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut connection.reader, &mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 400") && reply.ends_with("\r\n\r\n"), "{reply}");
    app.stop().await;
}

#[actix_web::test]
async fn requests_are_read_however_they_are_cut_up() {
    let app = TestApp::start(&[]).await;
    let chunked = "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
                   6\r\nStars \r\n7;x=y\r\ngo out.\r\n0\r\nX-Trailer: y\r\n\r\n";
    let all =
        [get("/zzz"), feed("text/plain", "Moons fall down."), chunked.to_owned(), get("/multivac?question=é")].concat();
    for size in [1, 2, 3, 7, 64, 1_000] {
        let mut connection = Connection::open(&app.base).await.unwrap();
        for piece in all.as_bytes().chunks(size) {
            connection.send(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        for _ in 0..4 {
            assert_eq!(connection.reply().await.unwrap().status, 200);
        }
    }
    let stats = app.until("/multivac/stats", |stats| stats["learned"] == 12).await;
    assert_eq!(stats["accepted"], 12);
    app.stop().await;
}

#[actix_web::test]
async fn a_head_that_breaks_off_is_refused() {
    let app = TestApp::start(&[]).await;
    let mut half = Connection::open(&app.base).await.unwrap();
    half.send("GET /multivac HTTP/1.1\r\nHost: ").await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut half.writer).await.unwrap();
    half.reply().await.unwrap().problem(400);
    app.stop().await;
}

#[actix_web::test]
async fn who_waits_for_leave_to_send_is_refused_at_once_or_gets_it() {
    let app = TestApp::start(&["--max-datum-size", "1KiB"]).await;
    let head = |path: &str, media: &str, length: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for media in
        ["text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
    {
        let mut connection = Connection::open(&app.base).await.unwrap();
        connection.send(head("/multivac/data", media, 1 << 30)).await.unwrap();
        // `reply` passes over 100; a server that sent it would wait for the body now.
        let reply = connection.reply_within(Duration::from_secs(5)).await.unwrap();
        reply.problem(413);
        assert!(reply.closes());
    }
    let mut connection = Connection::open(&app.base).await.unwrap();
    connection.send(head("/multivac/data", "text/plain", 13)).await.unwrap();
    let mut leave = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut connection.reader, &mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(connection.exchange("Stars go out.").await.unwrap().status, 200);
    app.stop().await;
}

#[actix_web::test]
async fn an_offer_to_upgrade_is_passed_over() {
    let app = TestApp::start(&[]).await;
    for offer in [
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Upgrade: websocket",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ] {
        let mut connection = Connection::open(&app.base).await.unwrap();
        let request =
            feed("text/plain", "Stars go out.").replace("Host: localhost", &format!("Host: localhost\r\n{offer}"));
        let reply = connection.exchange(request).await.unwrap();
        assert_eq!((reply.status, reply.closes()), (200, false), "{reply:?}");
        let request = get("/zzz").replace("Host: localhost", &format!("Host: localhost\r\n{offer}"));
        assert_eq!(connection.exchange(request).await.unwrap().status, 200);
    }
    app.stop().await;
}
