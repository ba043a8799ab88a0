//! Starts the real application on a port of the system's choice, with backends of its own.

use std::time::{Duration, Instant};

use actix_web::rt::task::JoinHandle;
use clap::Parser;
use multivac_api::app::Application;
use multivac_api::config::Config;
use multivac_api::error::AppError;
use multivac_testkit::TEST_TIMEOUT;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A running application, and a client for it.
pub(crate) struct TestApp {
    pub(crate) base: String,
    pub(crate) client: Client,
    directory: TempDir,
    stop: CancellationToken,
    running: JoinHandle<Result<(), AppError>>,
}

impl TestApp {
    /// Embedded, with an empty data directory.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags).await
    }

    /// Embedded, with this data directory.
    pub(crate) async fn start_in(directory: TempDir, flags: &[&str]) -> Self {
        let mut line = vec!["multivac-api", "--listen", "127.0.0.1:0", "--data-dir"];
        line.push(directory.path().to_str().unwrap());
        line.extend(flags);
        let application = Application::build(Config::parse_from(line)).await.unwrap();
        let base = format!("http://{}", application.address());
        let stop = CancellationToken::new();
        let running = actix_web::rt::spawn(application.run_until_stopped(stop.clone()));
        let app = Self { base, client: Client::new(), directory, stop, running };
        app.until("/readyz", |ready| ready["ready"] == true).await;
        app
    }

    /// Stops it, and gives the data directory back.
    pub(crate) async fn stop(self) -> TempDir {
        // With its idle connections, for which the application would wait.
        drop(self.client);
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.directory
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        self.request(Method::GET, path).header("Accept", "application/json").send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn ask(&self, question: &str) -> Value {
        let request = self.request(Method::GET, "/multivac").query(&[("question", question)]);
        request.header("Accept", "application/json").send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn feed(&self, text: &str) -> String {
        let reply = self.request(Method::POST, "/multivac/data").form(&[("data", text)]).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Feeds a text, and waits until answers can be made of it.
    pub(crate) async fn teach(&self, text: &str) -> String {
        let id = self.feed(text).await;
        self.until(&format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        id
    }

    /// Asks until the reply fulfils `condition`; fails with the last reply.
    pub(crate) async fn until(&self, path: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let seen = self.json(path).await;
            if condition(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{path} stays {seen}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
