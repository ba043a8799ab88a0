//! The server's settings.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use multivac_core::answer::{fitted_threshold, threshold_for};
use multivac_core::question::{Question, STANDING_QUESTION};
use multivac_core::queue::{Durability, QueueSettings};
use multivac_core::runtime::config::{BackendArgs, ConfigError, LogArgs, byte_size, duration};

use crate::cli::Command;

/// So that it can end within 30 seconds, whatever is under way.
pub(crate) const LONGEST_DRAIN_DELAY: Duration = Duration::from_secs(15);

/// MultiVAC's HTTP server: accepts data and answers questions from them.
///
/// With REDIS_URL and MONGO_URL it is one of any number of replicas beside multivac-worker. With neither it is the whole
/// system in one process, its data in one directory.
#[derive(Parser, Clone)]
#[command(name = "multivac-api", version)]
pub struct Config {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The address and port to listen on; port 0 lets the system choose one.
    #[arg(long, global = true, env = "MULTIVAC_LISTEN", default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: String,

    /// Where the embedded queue and store keep their data; made if it is not there. Unused with REDIS_URL and MONGO_URL.
    #[arg(long, env = "MULTIVAC_DATA_DIR", default_value = "./multivac-data", value_name = "DIRECTORY")]
    pub data_dir: PathBuf,

    /// How long, once it is to stop, it goes on serving while /readyz says no: for load balancers that look there before they
    /// send elsewhere. Such as 5s; at most 15s.
    #[arg(long, env = "MULTIVAC_DRAIN_DELAY", default_value = "0s", value_name = "TIME", value_parser = drain_delay)]
    pub drain_delay: Duration,

    /// The standing question: what is answered when nothing else is asked.
    #[arg(long, env = "MULTIVAC_QUESTION", default_value = STANDING_QUESTION, value_name = "TEXT")]
    pub question: Question,

    /// The largest datum, in bytes of UTF-8; with KiB or MiB. At most 3MiB, so that a stored datum fits a document: it is
    /// kept with its passages, in which each letter may take three times its bytes.
    #[arg(long, env = "MULTIVAC_MAX_DATUM_SIZE", default_value_t = ByteSize::mib(1),
          value_name = "SIZE", value_parser = datum_size)]
    pub max_datum_size: ByteSize,

    /// Unfinished data that the queue holds at most; beyond it, feeding gets 503.
    #[arg(long, env = "MULTIVAC_MAX_QUEUED", default_value_t = QueueSettings::default().max_queued,
          value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_queued: u64,

    /// The text of unfinished data that the queue holds at most; with KiB, MiB or GiB. Beyond it, feeding gets 503. Redis
    /// takes more for it: up to a quarter, and 300 bytes with each datum.
    #[arg(long, env = "MULTIVAC_MAX_QUEUED_BYTES", default_value_t = ByteSize(QueueSettings::default().max_queued_bytes),
          value_name = "SIZE", value_parser = byte_size)]
    pub max_queued_bytes: ByteSize,

    /// What must have happened to a datum before it gets 200: `server`: what Redis does by itself (`appendfsync`);
    /// `fsync`: it is on the disk of Redis; `replicated`: and on that of a replica. The last two need Redis 7.2 or newer,
    /// and appendfsync always lest each datum waits a second. The reply's header Durability tells what was reached.
    #[arg(long, env = "MULTIVAC_DURABILITY", default_value = Durability::default().as_str(),
          value_parser = durability(), value_name = "LEVEL")]
    pub durability: Durability,

    /// The confidence below which there is no answer, from 0 to 1. Higher: fewer answers, and more of them right.
    #[arg(long, env = "MULTIVAC_MIN_CONFIDENCE", default_value_t = fitted_threshold(), value_name = "P", value_parser = probability)]
    pub min_confidence: f64,

    /// In place of a confidence, the share of answers that shall be right, such as 0.9: the confidence that gave it where
    /// the model was fitted. Higher: fewer answers. Other data may give another share.
    #[arg(long, env = "MULTIVAC_MIN_PRECISION", value_name = "P", value_parser = probability, conflicts_with = "min_confidence")]
    pub min_precision: Option<f64>,

    #[command(flatten)]
    /// Where the queue and the store are.
    pub backends: BackendArgs,

    #[command(flatten)]
    /// How the server speaks.
    pub log: LogArgs,
}

impl Config {
    /// How the queue is used.
    ///
    /// # Errors
    /// When the largest datum would never find room.
    pub fn queue_settings(&self) -> Result<QueueSettings, ConfigError> {
        let least = self.max_datum_size.0.saturating_mul(u64::from(self.backends.partitions));
        if self.max_queued_bytes.0 < least {
            let least = ByteSize(least);
            let expected =
                format!("--max-queued-bytes: expected {least:.0} or more: --max-datum-size for each partition");
            return Err(ConfigError::Invalid(expected));
        }
        Ok(QueueSettings {
            max_queued: self.max_queued,
            max_queued_bytes: self.max_queued_bytes.0,
            durability: self.durability,
            ..self.backends.queue_settings()
        })
    }

    /// The confidence below which there is no answer.
    ///
    /// # Errors
    /// When no confidence gave the wanted precision.
    pub fn threshold(&self) -> Result<f64, ConfigError> {
        let Some(precision) = self.min_precision else { return Ok(self.min_confidence) };
        let none =
            || ConfigError::Invalid("--min-precision: no confidence gave as much; expected a lower one".to_owned());
        threshold_for(precision).ok_or_else(none)
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn durability() -> impl TypedValueParser<Value = Durability> {
    let help = |durability| match durability {
        Durability::Server => "Whatever the server does by itself before it replies",
        Durability::Fsync => "It is on the server's disk (fsync)",
        Durability::Replicated => "It is on the disk of the server, and on that of a replica",
    };
    let value = |durability: Durability| PossibleValue::new(durability.as_str()).help(help(durability));
    PossibleValuesParser::new(Durability::ALL.map(value)).map(|name| {
        let named = Durability::ALL.into_iter().find(|durability| durability.as_str() == name);
        named.expect("only these names pass the parser")
    })
}

fn drain_delay(text: &str) -> Result<Duration, String> {
    let delay = *duration(text)?;
    if delay <= LONGEST_DRAIN_DELAY { Ok(delay) } else { Err("expected 15s at most".to_owned()) }
}

fn datum_size(text: &str) -> Result<ByteSize, String> {
    let size = byte_size(text)?;
    if (1..=3 << 20).contains(&size.0) { Ok(size) } else { Err("expected from 1 byte to 3MiB".to_owned()) }
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
