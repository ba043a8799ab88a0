//! What a running process shows of itself: logs, traces, metrics.
//!
//! Logs go to the standard error stream. Traces go to an OpenTelemetry collector when `OTEL_EXPORTER_OTLP_ENDPOINT` is
//! set, and nowhere otherwise. Metrics are read from the process by Prometheus.

mod gcp;
mod logs;
pub mod metrics;
pub(crate) mod trace;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use logs::{LogFormat, QUIET_THREAD};
pub use trace::{NotATraceparent, TraceContext};

/// Sends what is left when it is dropped.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = &self.traces {
            // At the end of the process there is nobody left to tell.
            let _ = traces.shutdown();
        }
    }
}

/// Starts logging, and tracing where it is asked for. Once a process.
///
/// # Errors
/// When the collector's endpoint cannot be used, or logging was started before.
pub fn start(service: &'static str, format: LogFormat) -> Result<Telemetry, Box<dyn std::error::Error + Send + Sync>> {
    let filter = logs::filter()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Gcp => lines.event_format(gcp::Format).boxed(),
    };
    let traces = trace::exporter(service)?;
    let spans = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer(service)));
    tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init()?;
    logs::log_panics();
    Ok(Telemetry { traces })
}
