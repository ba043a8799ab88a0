//! Sends spans, and says so when it cannot: once, then rarely.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// How often a collector that is away is mentioned again.
const REMIND_INTERVAL: Duration = Duration::from_secs(300);

/// An exporter whose failures do not fill the log.
#[derive(Debug)]
pub(super) struct Sending {
    exporter: Arc<Otlp>,
    /// The runtime that its connections live in.
    runtime: Handle,
    timeout: Duration,
    endpoint: String,
    lost: AtomicU64,
    /// When it was last said that spans cannot be sent; `None` while they can.
    said: Mutex<Option<Instant>>,
}

impl Sending {
    pub(super) fn new(exporter: Otlp, runtime: Handle, timeout: Duration, endpoint: String) -> Self {
        let (lost, said) = (AtomicU64::new(0), Mutex::default());
        Self { exporter: Arc::new(exporter), runtime, timeout, endpoint, lost, said }
    }

    async fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let (exporter, timeout) = (Arc::clone(&self.exporter), self.timeout);
        let sent = self.runtime.spawn(async move { tokio::time::timeout(timeout, exporter.export(batch)).await });
        match sent.await {
            Ok(Ok(result)) => result.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err(format!("no reply within {timeout:?}")),
            Err(ended) => Err(ended.to_string()),
        }
    }

    fn note(&self, result: Result<(), String>, spans: u64) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = &self.endpoint;
        match result {
            Ok(()) => {
                if said.take().is_some() {
                    let lost = self.lost.swap(0, Ordering::Relaxed);
                    info!(endpoint, lost, "spans are sent to the collector again");
                }
            }
            Err(error) => {
                let lost = self.lost.fetch_add(spans, Ordering::Relaxed) + spans;
                if said.is_none_or(|said| said.elapsed() >= REMIND_INTERVAL) {
                    *said = Some(Instant::now());
                    warn!(
                        endpoint,
                        error, lost, "spans cannot be sent to the collector and are lost; all else goes on"
                    );
                }
            }
        }
    }
}

impl SpanExporter for Sending {
    /// Never fails: the SDK would log each time that it does.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.send(batch).await;
        self.note(result, spans);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
