//! What a running process shows of itself: logs, traces, metrics.
//!
//! Logs go to the standard error stream. Traces go to an OpenTelemetry collector when `OTEL_EXPORTER_OTLP_ENDPOINT` is
//! set, and nowhere otherwise; each request and batch has its ids all the same. Metrics are read from the process by
//! Prometheus.

pub(crate) mod gcp_project;
mod limits;
mod lines;
mod logs;
pub mod metrics;
mod otlp;
mod sending;
pub mod spans;
pub mod trace;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use logs::LogFormat;

use limits::Limits;
use lines::{Form, Gcp, LEFT_OUT, Lines};
use otlp::{Exported, Settings};

/// How long a collector may take at the end, for what is left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends what is left when it is dropped.
pub struct Telemetry {
    traces: Option<Exported>,
    limits: Arc<Limits>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = &mut self.traces {
            traces.stop(FLUSH_TIMEOUT);
        }
        for (line, suppressed) in self.limits.drain() {
            tracing::info!(line, suppressed, "{LEFT_OUT}");
        }
    }
}

/// Starts logging, and tracing where it is asked for. Once a process.
///
/// `gcp_project` is the project of Google Cloud that traces belong to; where it is left out, the metadata server is asked.
///
/// # Errors
/// When a variable of OpenTelemetry's cannot be used, or logging was started before.
pub fn start(
    service: &'static str,
    format: LogFormat,
    gcp_project: Option<&str>,
) -> Result<Telemetry, Box<dyn std::error::Error + Send + Sync>> {
    let (filter, limits) = (logs::filter()?, Arc::<Limits>::default());
    let form = match format {
        LogFormat::Text => Form::Text,
        LogFormat::Json => Form::Json,
        LogFormat::Gcp => {
            let project = gcp_project.map(str::to_owned).or_else(gcp_project::find);
            Form::Gcp(Gcp { service, project })
        }
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).event_format(Lines::new(form, Arc::clone(&limits)));
    let settings = Settings::from_environment(service)?;
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    logs::log_panics();
    for warning in settings.iter().flat_map(|settings| &settings.warnings) {
        tracing::warn!("{warning}");
    }
    let traces = settings.map(Exported::start).transpose()?;
    if let Some(traces) = &traces {
        trace::install(traces.provider.tracer("multivac"));
    }
    Ok(Telemetry { traces, limits })
}
