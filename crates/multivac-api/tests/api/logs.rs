//! What the program logs in a session: each line is what docs/logging.md says, and none has what must not be in one.

use std::io::{Read, Write};
use std::net::TcpListener;

use multivac_testkit::port::free_port;
use multivac_testkit::process::Process;
use reqwest::{Client, StatusCode};
use serde_json::{Map, Value};

use crate::program::{Program, program};

const MARK: &str = "Zanzibar-mark-7141";

/// A session with data, questions, mistakes and a retraction, logged in a format as fully as can be; its lines.
async fn session(format: &str, metadata_server: &str) -> Vec<Map<String, Value>> {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    // Not on a port of the system's choice: where it listens is a line of the log in these formats.
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = program(&["--listen", &address, "--data-dir", data, "--log-format", format]);
    command.env("RUST_LOG", "multivac_core=trace,multivac_api=trace").env("GCE_METADATA_HOST", metadata_server);
    let process = Process::start(&mut command);
    process.wait_for_log("loaded the store");
    let program = Program { base: format!("http://{address}"), process };
    let client = Client::new();
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    let url = |path: &str| format!("{}{path}", program.base);
    let fed = client.post(url("/multivac/data")).form(&[("data", format!("{MARK} shines."))]).send().await.unwrap();
    let id = fed.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 1).await;
    let question = client.get(url("/multivac")).query(&[("question", format!("What does {MARK} do?"))]);
    assert_eq!(question.send().await.unwrap().status(), StatusCode::OK);
    let wrong = client.post(url("/multivac/data")).header("Content-Type", "application/json").body(format!("{{{MARK}"));
    assert_eq!(wrong.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let none = client.get(url("/nothing")).query(&[("password", MARK)]).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    let retracted = client.delete(url(&format!("/multivac/data/{id}"))).send().await.unwrap();
    assert_eq!(retracted.status(), StatusCode::NO_CONTENT);
    program.process.signal("TERM");
    let exit = program.ended().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(!exit.stderr.contains(MARK), "{}", exit.stderr);
    assert!(exit.stderr.contains("request"), "nothing was logged of requests: {}", exit.stderr);
    let lines = exit.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
    lines.collect()
}

fn is_hex(value: &Value, digits: usize) -> bool {
    value.as_str().is_some_and(|text| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The fields that any line may have of its own, as the page has them.
fn on_the_page(name: &str) -> bool {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/logging.md");
    std::fs::read_to_string(path).unwrap().contains(&format!("`{name}`"))
}

#[tokio::test]
async fn every_line_of_a_session_is_json_with_the_fields_of_the_page() {
    let lines = session("json", "127.0.0.1:9").await;
    for line in &lines {
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&line["level"].as_str().unwrap()), "{line:?}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["target"].is_string(), "{line:?}");
        assert_eq!(line.contains_key("trace_id"), line.contains_key("span_id"), "{line:?}");
        assert!(line.get("trace_id").is_none_or(|id| is_hex(id, 32)), "{line:?}");
        assert!(line.get("span_id").is_none_or(|id| is_hex(id, 16)), "{line:?}");
        for name in line.keys() {
            assert!(on_the_page(name), "{name} in {line:?}");
        }
    }
    let requests: Vec<_> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert!(requests.len() > 4 && requests.iter().all(|line| line.contains_key("trace_id")), "{requests:?}");
}

/// A metadata server that says a project once.
fn metadata_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = vec![0; 1024];
        let read = connection.read(&mut request).unwrap();
        let request = String::from_utf8_lossy(&request[..read]).into_owned();
        assert!(
            request.starts_with("GET /computeMetadata/v1/project/project-id ")
                && request.contains("Metadata-Flavor: Google")
        );
        connection
            .write_all(b"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: 9\r\n\r\na-project")
            .unwrap();
    });
    address
}

#[tokio::test]
async fn every_line_of_a_session_is_what_google_cloud_reads() {
    let lines = session("gcp", &metadata_server()).await;
    for line in &lines {
        let severities = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
        assert!(severities.contains(&line["severity"].as_str().unwrap()), "{line:?}");
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["message"].is_string(), "{line:?}");
        let source = &line["logging.googleapis.com/sourceLocation"];
        assert!(source["file"].is_string() && source["line"].as_str().unwrap().parse::<u32>().is_ok(), "{line:?}");
        assert_eq!(line["logging.googleapis.com/labels"]["program"], "api");
        if let Some(trace) = line.get("logging.googleapis.com/trace") {
            assert!(trace.as_str().unwrap().starts_with("projects/a-project/traces/"), "{line:?}");
            assert!(is_hex(&line["logging.googleapis.com/spanId"], 16), "{line:?}");
            assert!(line["logging.googleapis.com/trace_sampled"].is_boolean(), "{line:?}");
        }
        for name in line.keys() {
            assert!(on_the_page(name), "{name} in {line:?}");
        }
    }
    let request = lines.iter().find(|line| line["message"] == "request" && line["path"] == "/nothing").unwrap();
    let shown = &request["httpRequest"];
    assert_eq!(
        (&shown["requestMethod"], &shown["requestUrl"], &shown["status"]),
        (&"GET".into(), &"/nothing".into(), &404.into())
    );
    let latency = shown["latency"].as_str().unwrap();
    assert!(latency.strip_suffix('s').unwrap().parse::<f64>().is_ok(), "{latency}");
}
