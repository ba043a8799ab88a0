//! Log lines on the standard error stream: as text for people, as JSON, or as Google Cloud's logging reads them.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// The JSON that Google Cloud's logging reads.
    Gcp,
}

impl LogFormat {
    /// What is meant where nothing was said: text for a terminal, JSON for a machine.
    #[must_use]
    pub fn or_default(format: Option<Self>) -> Self {
        format.unwrap_or(if std::io::stderr().is_terminal() { Self::Text } else { Self::Json })
    }
}

/// Where panics are logged.
pub(super) const TARGET: &str = module_path!();

/// The message of a panic's line.
pub(super) const PANICKED: &str = "panicked";

/// Writes panics to the log, as events like any other: their place alone, since a message may quote what was fed or asked.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log_panic(panic.location().map(ToString::to_string), std::thread::current().name());
    }));
}

/// Takes no message, so that none can get into the log.
pub(super) fn log_panic(place: Option<String>, thread: Option<&str>) {
    tracing::error!(place, thread, "{PANICKED}");
}

/// Which lines are written: what `RUST_LOG` says, else `info` and above.
pub(super) fn filter() -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    // These log each of their own steps at info.
    let quiet = ["tantivy=warn", "actix_server=warn", "actix_web=warn"];
    // Of spans that cannot be sent, `sending` says what there is to say.
    const QUIET_EXPORTER: &str = "opentelemetry-otlp=off";
    let add = |filter: EnvFilter, rule: &str| rule.parse().map(|rule| filter.add_directive(rule));
    match std::env::var("RUST_LOG").ok().filter(|rules| !rules.is_empty()) {
        Some(rules) if rules.contains("opentelemetry") => Ok(filter),
        Some(_) => add(filter, QUIET_EXPORTER),
        None => quiet.into_iter().chain([QUIET_EXPORTER]).try_fold(filter, add),
    }
}
