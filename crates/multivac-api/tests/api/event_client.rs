//! A client of event streams.

use multivac_testkit::TEST_TIMEOUT;
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::time::timeout;

/// One event, as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// An event stream that is read.
pub(crate) struct Events {
    reply: Response,
    unread: String,
    /// Milliseconds to wait before coming back, once the stream has said them.
    pub(crate) retry: Option<u64>,
}

impl Events {
    /// Opens one; with an id, as a client that comes back.
    pub(crate) async fn open(client: &Client, url: &str, last_event_id: Option<&str>) -> Self {
        let mut request = client.get(url).header("Accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        Self { reply, unread: String::new(), retry: None }
    }

    /// The next event; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let mut event = Event { name: String::new(), id: None, data: Value::Null };
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("retry", ms)) => self.retry = Some(ms.parse().unwrap()),
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = Some(id.to_owned()),
                        Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                        _ if line.starts_with(':') => {}
                        _ => panic!("no line of an event: {line:?}"),
                    }
                }
                self.unread = rest.to_owned();
                if event.data != Value::Null {
                    return Some(event);
                }
            }
            let chunk = timeout(TEST_TIMEOUT, self.reply.chunk()).await.expect("an event or an end in time");
            self.unread.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    /// The next event of this name; others are passed over.
    pub(crate) async fn next_of(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name == name {
                return event;
            }
        }
    }

    pub(crate) async fn next_answer(&mut self) -> Event {
        self.next_of("answer").await
    }

    /// Waits until the ledger is as `condition` says, and tells what answers came by then.
    pub(crate) async fn answers_until(&mut self, condition: impl Fn(&Value) -> bool) -> Vec<Event> {
        let mut answers = Vec::new();
        loop {
            let event = self.next().await.expect("the stream goes on");
            match event.name.as_str() {
                "stats" if condition(&event.data) => return answers,
                "answer" => answers.push(event),
                _ => {}
            }
        }
    }
}
