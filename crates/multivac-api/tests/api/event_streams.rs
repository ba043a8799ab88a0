//! Event streams of the real program: clients that are slow or gone, replicas that stop, hang, or may not answer.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_testkit::backends::database;
use multivac_testkit::hang::HangingServers;
use multivac_testkit::http::{Connection, get, send};
use multivac_testkit::wait::until;
use reqwest::Client;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::event_client::Events;
use crate::program::Program;

const EVENTS: &str = "/multivac/events?question=What+do+penguins+eat%3F";
const KRILL: &str = "Penguins eat krill and small fish.";

fn embedded() -> (TempDir, Program) {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap()]);
    (directory, program)
}

async fn feed(client: &Client, base: &str, text: &str) -> String {
    let reply = client.post(format!("{base}/multivac/data")).form(&[("data", text)]).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

async fn retract(client: &Client, base: &str, id: &str) {
    let reply = client.delete(format!("{base}/multivac/data/{id}")).send().await.unwrap();
    assert_eq!(reply.status(), 204);
}

async fn metric(program: &Program, name: &str) -> f64 {
    let text = reqwest::get(format!("{}/metrics", program.base)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

/// Opens a stream whose bytes are not read, on a socket that holds few of them.
async fn open_unread(base: &str) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let address: std::net::SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut connection = Connection::from(tokio::net::TcpStream::from_std(socket.into()).unwrap());
    connection.send(get(EVENTS)).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_replica_ends_its_streams_at_once_and_opens_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    for delay in [0, 3] {
        let program = Program::start(&[&flags[..], &["--drain-delay", &format!("{delay}s")]].concat());
        let mut streams = join_all((0..1_000).map(|_| async {
            let mut connection = Connection::open(&program.base).await.unwrap();
            connection.send(get(EVENTS)).await.unwrap();
            connection
        }))
        .await;
        until("all are open", async || metric(&program, "multivac_event_streams").await == 1_000.0).await;
        program.process.signal("TERM");
        let asked = Instant::now();
        let ended = join_all(streams.iter_mut().map(|stream| stream.ends_within(Duration::from_secs(10)))).await;
        assert!(ended.iter().all(|ended| *ended));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        if delay > 0 {
            let refused = send(&program.base, get(EVENTS)).await.unwrap();
            assert!(refused.problem(503).contains("stopped"));
            assert!(refused.header("retry-after").is_some());
            assert_eq!(send(&program.base, get("/multivac")).await.unwrap().status, 200, "all else goes on");
            assert_eq!(metric(&program, "multivac_event_streams_ended_total{reason=\"stopping\"}").await, 1_000.0);
        }
        let exit = program.ended().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(asked.elapsed() < Duration::from_secs(delay + 3), "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_before_anything_is_sent_to_it() {
    let (_directory, program) = embedded();
    let streams = join_all((0..20).map(|_| open_unread(&program.base))).await;
    until("all are open", async || metric(&program, "multivac_event_streams").await == 20.0).await;
    // A request counts when it has its head, not when its stream ends.
    let requests = "multivac_http_request_seconds_count{route=\"/multivac/events\",method=\"GET\",status=\"200\"}";
    assert_eq!(metric(&program, requests).await, 20.0);
    let left = Instant::now();
    drop(streams);
    until("all are gone", async || metric(&program, "multivac_event_streams").await == 0.0).await;
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    assert_eq!(metric(&program, "multivac_event_streams_ended_total{reason=\"left\"}").await, 20.0);
    program.kill();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped_and_others_are_sent_all() {
    let (_directory, program) = embedded();
    let client = Client::new();
    let mut stuck = open_unread(&program.base).await;
    let mut events = Events::open(&client, &format!("{}{EVENTS}", program.base), None).await;
    events.next_answer().await;
    // Ten passages as evidence, as long as can be: more than the sockets hold.
    let long: String = (0..10).map(|n| format!("{KRILL} {}\n\n", format!("Of ice {n}. ").repeat(150))).collect();
    for _ in 0..15 {
        let id = feed(&client, &program.base, &long).await;
        assert_eq!(events.next_answer().await.data["because"]["kind"], "learned");
        retract(&client, &program.base, &id).await;
        assert_eq!(events.next_answer().await.data["because"]["kind"], "retracted");
    }
    let begun = Instant::now();
    until("it is dropped", async || {
        metric(&program, "multivac_event_streams_ended_total{reason=\"slow\"}").await == 1.0
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(metric(&program, "multivac_event_streams").await, 1.0);
    assert!(stuck.ends_within(Duration::from_secs(5)).await);
    feed(&client, &program.base, KRILL).await;
    assert_eq!(events.next_answer().await.data["answer"], KRILL);
    program.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_may_not_answer_ends_its_streams_until_it_may_again() {
    let Some(servers) = HangingServers::start().await else { return };
    let flags = servers.flags();
    let program = Program::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let client = Client::new();
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    let url = format!("{}{EVENTS}", program.base);
    // An index that holds nothing has nothing to fence.
    let entropy = database(&servers.mongo_url(), "multivac").await.collection::<Document>("entropy");
    let mut events = Events::open(&client, &url, None).await;
    events.next_answer().await;
    entropy.insert_one(doc! { "_id": ObjectId::new(), "data": KRILL }).await.unwrap();
    assert_eq!(events.next_answer().await.data["answer"], KRILL);

    // The queue says nothing, and yet the answer comes at once.
    servers.redis.service.pause();
    let begun = Instant::now();
    Events::open(&client, &url, None).await.next_answer().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    servers.redis.service.resume();

    servers.lock().await;
    let begun = Instant::now();
    while let Some(event) = events.next().await {
        assert_ne!(event.name, "answer");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let refused = send(&program.base, get(EVENTS)).await.unwrap();
    assert!(refused.problem(503).contains("retracted") && refused.header("retry-after").is_some());
    assert_eq!(metric(&program, "multivac_event_streams_ended_total{reason=\"fenced\"}").await, 1.0);
    servers.unlock().await;
    until("it may answer", async || send(&program.base, get("/multivac")).await.unwrap().status == 200).await;
    assert_eq!(Events::open(&client, &url, None).await.next_answer().await.data["answer"], KRILL);
    program.kill();
}
