//! The server's settings.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use multivac_core::answer::{Calibration, fitted_threshold, threshold_for};
use multivac_core::question::{Question, STANDING_QUESTION};
use multivac_core::queue::{Durability, QueueSettings};
use multivac_core::runtime::config::{BackendArgs, ConfigError, LogArgs, byte_size, datum_size, duration};
use multivac_core::runtime::files::{self, TooFewFiles};
use multivac_core::runtime::hosts::AllowedHosts;

use crate::cli::Command;

/// The longest `--drain-delay`: with it, the process still ends within 30 seconds of being told to stop.
const MAX_DRAIN_DELAY: Duration = Duration::from_secs(15);

/// Open files beside the clients' connections: the index's, the database's, connections to Redis and MongoDB.
const OTHER_FILES: u64 = 512;

/// How much of a calibration is read: hundreds of times what `calibrate` writes.
const MAX_CALIBRATION_BYTES: u64 = 1 << 20;

/// Clients' connections that there is room for at least.
const MIN_CONNECTIONS: u64 = 64;

/// Open files without which the server does not start.
pub(crate) const MIN_FILES: u64 = OTHER_FILES + MIN_CONNECTIONS;

/// MultiVAC's HTTP server: accepts data and answers questions from them.
///
/// With REDIS_URL and MONGO_URL it is one of any number of replicas beside multivac-worker. With neither it is the whole
/// system in one process, its data in one directory.
///
/// SIGTERM or SIGINT stops it, within 30 seconds; a second one ends it at once, with status 130. An empty variable is an unset one.
#[derive(Parser, Clone)]
#[command(name = "multivac-api", version, max_term_width = 100)]
pub struct Config {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The address and port to listen on; port 0 lets the system choose one.
    #[arg(long, global = true, env = "MULTIVAC_LISTEN", default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: String,

    /// Names by which clients reach the server, beside localhost and its loopback addresses, with commas between them: for a
    /// proxy on the same machine that passes on the Host of its clients. Where the server listens on a loopback address, a
    /// request whose Host is any other gets 403, so that no web page can make its own name mean this machine (DNS rebinding).
    /// Where it listens elsewhere, Host is checked only if this is set, and addresses pass.
    #[arg(long, env = "MULTIVAC_ALLOWED_HOSTS", value_name = "NAME,…", value_parser = AllowedHosts::parse)]
    pub allowed_hosts: Option<AllowedHosts>,

    /// The directory in which the embedded queue and store keep their data; created if it is missing. Unused with REDIS_URL
    /// and MONGO_URL.
    #[arg(long, global = true, env = "MULTIVAC_DATA_DIR", default_value = "./multivac-data", value_name = "DIRECTORY")]
    pub data_dir: PathBuf,

    /// The directory in which the index is kept over restarts, so that a server is ready as soon as its files have been read, which
    /// takes a second or two for a million short data; created if it is missing. Each replica needs its own: the server does not start where another uses it, or where there are
    /// files of others. An index that is damaged, of another version or of other data is made anew, as the log says. Left out: a
    /// temporary directory (TMPDIR), made anew at each start and removed at the end.
    #[arg(long, env = "MULTIVAC_INDEX_DIR", value_name = "DIRECTORY")]
    pub index_dir: Option<PathBuf>,

    /// How long a server that was told to stop goes on serving while /readyz says that it is not ready, such as 5s; at most
    /// 15s. For load balancers that poll /readyz to decide where to send requests.
    #[arg(long, env = "MULTIVAC_DRAIN_DELAY", default_value = "0s", value_name = "TIME", value_parser = drain_delay)]
    pub drain_delay: Duration,

    /// The standing question: it is answered when a request names no other.
    #[arg(long, env = "MULTIVAC_QUESTION", default_value = STANDING_QUESTION, value_name = "TEXT")]
    pub question: Question,

    /// How many different questions may be watched at once (/multivac/events?question=…), besides the standing one; who would
    /// watch another gets 429. Each is answered anew whenever the index has changed, and keeps up to 4 MiB of what its answers
    /// have been in the last minute.
    #[arg(long, env = "MULTIVAC_MAX_WATCHED", default_value = "100", value_name = "N")]
    pub max_watched: usize,

    /// The largest datum that is accepted, in bytes of UTF-8, such as 512KiB; at most 3MiB, so that it fits a document of
    /// MongoDB (16 MiB): it is stored with its passages, in which a letter may take up to three times its bytes.
    #[arg(long, env = "MULTIVAC_MAX_DATUM_SIZE", default_value_t = ByteSize::mib(1),
          value_name = "SIZE", value_parser = datum_size)]
    pub max_datum_size: ByteSize,

    /// How many unfinished data the queue holds at most; more are refused with 503.
    #[arg(long, env = "MULTIVAC_MAX_QUEUED", default_value_t = QueueSettings::default().max_queued,
          value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_queued: u64,

    /// How much text of unfinished data the queue holds at most, such as 512MiB; more is refused with 503. Redis needs more
    /// memory than that: up to a quarter more, and 300 bytes for each datum.
    #[arg(long, env = "MULTIVAC_MAX_QUEUED_BYTES", default_value_t = ByteSize(QueueSettings::default().max_queued_bytes),
          value_name = "SIZE", value_parser = byte_size)]
    pub max_queued_bytes: ByteSize,

    /// How durable a datum must be before feeding it gets 200. fsync and replicated need Redis 7.2 or newer, and the setting
    /// appendfsync always of Redis: with everysec each datum would wait for up to a second. The reply's header Durability
    /// says which level was reached.
    #[arg(long, env = "MULTIVAC_DURABILITY", default_value = Durability::default().as_str(),
          value_parser = durability(), value_name = "LEVEL")]
    pub durability: Durability,

    /// The confidence below which the reply is INSUFFICIENT DATA, from 0 to 1. A higher one gives fewer answers, of which
    /// more are right. Left out: that of --calibration, or else the one that was fitted with the model (docs/answers.md).
    #[arg(long, env = "MULTIVAC_MIN_CONFIDENCE", value_name = "P", value_parser = probability)]
    pub min_confidence: Option<f64>,

    /// Instead of a confidence, the share of answers that should be right, such as 0.9: it chooses the confidence at which
    /// that share was right on the data that the model was fitted to. Other data may give another share. Not with
    /// --calibration, which gives confidence another meaning: `calibrate` prints which --min-confidence gave which share.
    #[arg(long, env = "MULTIVAC_MIN_PRECISION", value_name = "P", value_parser = probability,
          conflicts_with_all = ["min_confidence", "calibration"])]
    pub min_precision: Option<f64>,

    /// A file that `calibrate` has written: from then on, confidence is the share of right answers among the questions that
    /// were asked there, and --min-confidence is that of their best F1 if it is not given. It is of one model: after an upgrade
    /// that brings another, the server does not start with it, and the questions have to be asked again.
    #[arg(long, env = "MULTIVAC_CALIBRATION", value_name = "FILE")]
    pub calibration: Option<PathBuf>,

    /// Serve GET /multivac/export and POST /multivac/import: whoever reaches them may read all data at once, and add any. The server
    /// asks for no password itself; the edge does (deploy/nginx). Left out: both get 403.
    #[arg(long, env = "MULTIVAC_ALLOW_BACKUP_OVER_HTTP")]
    pub allow_backup_over_http: bool,

    #[command(flatten)]
    /// Where the queue and the store are.
    pub backends: BackendArgs,

    #[command(flatten)]
    /// How the server logs.
    pub log: LogArgs,
}

impl Config {
    /// How the queue is used.
    ///
    /// # Errors
    /// When the queue would have no room for the largest datum.
    pub fn queue_settings(&self) -> Result<QueueSettings, ConfigError> {
        let min_bytes = self.max_datum_size.0.saturating_mul(u64::from(self.backends.partitions));
        if self.max_queued_bytes.0 < min_bytes {
            // Exact, where its own display would round: the named value must be taken.
            let min_bytes = match min_bytes {
                n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
                n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
                n => n.to_string(),
            };
            let expected =
                format!("--max-queued-bytes: expected {min_bytes} or more: --max-datum-size for each partition");
            return Err(ConfigError::Invalid(expected));
        }
        Ok(QueueSettings {
            max_queued: self.max_queued,
            max_queued_bytes: self.max_queued_bytes.0,
            durability: self.durability,
            ..self.backends.queue_settings()
        })
    }

    /// What confidence means, and from which on there is an answer.
    ///
    /// # Errors
    /// When no confidence reached the precision that is asked for, or a file is no calibration.
    pub fn calibration(&self) -> Result<Calibration, ConfigError> {
        let mut calibration = match (&self.calibration, self.min_precision) {
            (Some(path), _) => calibration_in(path)?,
            (None, None) => fitted_threshold().into(),
            (None, Some(precision)) => {
                let unreachable = "--min-precision: no confidence gave as much; expected a lower one";
                threshold_for(precision).ok_or_else(|| ConfigError::Invalid(unreachable.to_owned()))?.into()
            }
        };
        if let Some(min_confidence) = self.min_confidence {
            calibration.min_confidence = min_confidence;
        }
        Ok(calibration)
    }
}

/// As many connections as the system allows this process, whose limit is raised as far as possible. More wait to be
/// accepted; without this limit too many open files would fail whatever needs one.
///
/// # Errors
/// When the system allows too few open files.
pub(crate) fn max_connections() -> Result<usize, TooFewFiles> {
    let files = files::require(MIN_FILES)?;
    Ok(usize::try_from((files - OTHER_FILES).min(50_000)).expect("50,000 fits"))
}

fn calibration_in(path: &Path) -> Result<Calibration, ConfigError> {
    let unreadable = |source| {
        let path = path.display().to_string();
        ConfigError::Unreadable { variable: "MULTIVAC_CALIBRATION", path, source }
    };
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_CALIBRATION_BYTES).read_to_end(&mut text)).map_err(unreadable)?;
    // What is not UTF-8 is no calibration either.
    Calibration::read(&String::from_utf8_lossy(&text))
        .map_err(|error| ConfigError::Invalid(format!("--calibration: {}: {error}", path.display())))
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn durability() -> impl TypedValueParser<Value = Durability> {
    let help = |durability| match durability {
        Durability::Server => "Whatever Redis does by itself before it replies (its setting appendfsync)",
        Durability::Fsync => "It is on the disk of Redis (fsync)",
        Durability::Replicated => "It is on the disk of Redis, and on that of a replica",
    };
    let value = |durability: Durability| PossibleValue::new(durability.as_str()).help(help(durability));
    PossibleValuesParser::new(Durability::ALL.map(value)).map(|name| {
        let named = Durability::ALL.into_iter().find(|durability| durability.as_str() == name);
        named.expect("only these names pass the parser")
    })
}

fn drain_delay(text: &str) -> Result<Duration, String> {
    let delay = *duration(text)?;
    if delay <= MAX_DRAIN_DELAY { Ok(delay) } else { Err("expected 15s at most".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Config::command().debug_assert();
    }
}
