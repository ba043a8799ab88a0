//! What got a 200 is stored as it was sent; what cannot be is refused.

use multivac_testkit::http::{Reply, feed, send};

use crate::test_app::TestApp;

const BOUNDARY: &str = "multipart/form-data; boundary=b";

fn part(fields: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"data\"\r\n{fields}\r\n{content}\r\n")
}

async fn post(app: &TestApp, media: &str, body: &str) -> Reply {
    send(&app.base, feed(media, body)).await.unwrap()
}

#[actix_web::test]
async fn a_text_is_stored_as_it_was_sent() {
    let app = TestApp::start(&[]).await;
    let text = |name: &str| format!("The {name} of the tower is 7+3=10 & 100% \"zinc\"; it's <old>.");
    let body = |fields: &str, name: &str| format!("{}--b--\r\n", part(fields, &text(name)));
    let json = |name: &str| serde_json::json!({ "data": text(name) }).to_string();
    let form = |name: &str| reqwest::Client::new().post("http://x").form(&[("data", text(name))]).build().unwrap();
    let form = |name: &str| String::from_utf8(form(name).body().unwrap().as_bytes().unwrap().to_vec()).unwrap();
    for (name, media, body) in [
        // The length that a part claims is passed over (RFC 7578, 4.8).
        ("gate", BOUNDARY, body("Content-Length: 2\r\n", "gate")),
        ("wall", BOUNDARY, body("content-length: 4000\r\n", "wall")),
        (
            "roof",
            BOUNDARY,
            body("Content-Transfer-Encoding: 8BIT\r\nContent-Type: Text/Plain; charset=\"utf-8\"\r\n", "roof"),
        ),
        ("door", "Multipart/Form-Data; boundary=\"b\"", format!("preamble\r\n{}epilogue", body("", "door"))),
        ("lamp", BOUNDARY, body("", "lamp").replace("name=\"data\"", "name=data; filename=\"a;b.txt\"")),
        ("horn", BOUNDARY, body("", "horn").replace("name=\"data\"", "name=\"da\\ta\"")),
        ("floor", "application/x-www-form-urlencoded; charset=UTF-8", form("floor")),
        ("attic", "application/x-www-form-urlencoded", format!("x=1&_charset_=utf-8&{}&y=2", form("attic"))),
        ("ladder", "Application/JSON; charset='utf-8'", json("ladder")),
        ("window", "application/json", format!("\u{feff}{}", json("window"))),
        ("garden", "text/plain;charset=utf-8", text("garden")),
        ("cellar", "TEXT/plain", format!("\u{feff}{}", text("cellar"))),
    ] {
        let reply = post(&app, media, &body).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        let id = reply.json().unwrap()["id"].as_str().unwrap().to_owned();
        app.until(&format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        let answer = app.ask(&format!("What is the {name} of the tower?")).await;
        let evidence = answer["evidence"].as_array().unwrap();
        let stored = evidence.iter().find(|evidence| evidence["id"] == id.as_str());
        assert_eq!(stored.unwrap_or_else(|| panic!("{name}: {answer}"))["passage"], text(name));
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_text_that_could_not_be_stored_as_it_was_sent_is_refused() {
    let app = TestApp::start(&[]).await;
    let whole = |fields: &str| format!("{}--b--\r\n", part(fields, "aGVsbG8="));
    let twice = format!("{}{}--b--", part("", "one"), part("", "two"));
    let charset =
        format!("--b\r\nContent-Disposition: form-data; name=\"_charset_\"\r\n\r\niso-8859-1\r\n{}", whole(""));
    let (form, json) = ("application/x-www-form-urlencoded", "application/json");
    for (media, body, status) in [
        (BOUNDARY, whole("Content-Transfer-Encoding: base64\r\n").as_str(), 400),
        (BOUNDARY, &whole("content-transfer-encoding: Quoted-Printable\r\n"), 400),
        (BOUNDARY, &whole("Content-Transfer-Encoding: x-unknown\r\n"), 400),
        (BOUNDARY, &whole("Content-Type: text/plain; charset=iso-8859-1\r\n"), 415),
        (BOUNDARY, &whole("Content-Type: multipart/mixed; boundary=c\r\n"), 415),
        (BOUNDARY, &whole("Content-Encoding: gzip\r\n"), 415),
        (BOUNDARY, &twice, 400),
        (BOUNDARY, &charset, 415),
        // It breaks off.
        (BOUNDARY, &part("", "one"), 400),
        (BOUNDARY, &format!("{}--b", part("", "one")), 400),
        (BOUNDARY, "--b\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\none", 400),
        ("multipart/form-data; boundary=b; charset=latin1", &whole(""), 415),
        (form, "data=one&data=two", 400),
        (form, "data=salt & pepper", 400),
        (form, "data=AT&T", 400),
        (form, "data=%ff", 400),
        (form, "data=%ed%a0%80", 400),
        (form, "_charset_=iso-8859-1&data=one", 415),
        ("application/x-www-form-urlencoded; charset=iso-8859-1", "data=one", 415),
        (json, r#"{"data":"one","data":"two"}"#, 400),
        (json, r#"{"data":"one"} {"data":"two"}"#, 400),
        (json, r#"{"data":"one"}x"#, 400),
        (json, r#"{"data":"\ud800"}"#, 400),
        (json, r#"["one"]"#, 400),
        (json, r#""one""#, 400),
        (json, "1", 400),
        (json, "null", 400),
        ("application/json; charset=utf-16", r#"{"data":"one"}"#, 415),
        ("text/plain; charset=utf-16", "one", 415),
    ] {
        let reply = post(&app, media, body).await;
        assert_eq!(reply.status, status, "{media}: {body:?}: {reply:?}");
        reply.problem(status);
    }
    assert_eq!(app.json("/multivac/stats").await["accepted"], 0);
    app.stop().await;
}

#[actix_web::test]
async fn what_nobody_can_see_is_empty() {
    let app = TestApp::start(&[]).await;
    for blank in ["\0", "\u{200b}", "\u{feff}", "\u{2060}\u{ad}\n", "\u{3164}", "\u{1b}\u{85}"] {
        for (media, body) in
            [("text/plain", blank.to_owned()), ("application/json", serde_json::json!({ "data": blank }).to_string())]
        {
            let detail = post(&app, media, &body).await.problem(400);
            assert!(detail.contains("empty"), "{detail}");
        }
        let question = app.request(reqwest::Method::GET, "/multivac").query(&[("question", blank)]);
        assert_eq!(question.send().await.unwrap().status(), 400, "{blank:?}");
    }
    app.stop().await;
}
