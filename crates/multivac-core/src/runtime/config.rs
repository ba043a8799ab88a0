//! The settings that both programs share, and how values are written.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Command, Parser};
use humantime::Duration as Time;
use secrecy::{ExposeSecret, SecretString};

use crate::observe::LogFormat;
use crate::queue::{LEASE_MAX_BYTES, QueueSettings};

/// Reads a size such as `512KiB` or `1MiB`, or a plain number of bytes. Decimal units (`MB`) are refused: most people who
/// write them mean the binary ones.
///
/// # Errors
/// Says what was expected.
pub fn byte_size(text: &str) -> Result<ByteSize, String> {
    let unit = text.trim().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
    let expected = || "expected a size such as 512KiB or 1MiB".to_owned();
    if !matches!(unit, "" | "B" | "KiB" | "MiB" | "GiB") {
        return Err(expected());
    }
    match text.trim().parse() {
        // What is too large for a number of bytes is read as the largest one, which nobody means.
        Ok(ByteSize(u64::MAX)) | Err(_) => Err(expected()),
        Ok(size) => Ok(size),
    }
}

/// Reads the size of the largest datum.
///
/// # Errors
/// When it is none, or larger than what fits a document of MongoDB.
pub fn datum_size(text: &str) -> Result<ByteSize, String> {
    let size = byte_size(text)?;
    if (1..=3 << 20).contains(&size.0) { Ok(size) } else { Err("expected from 1 byte to 3MiB".to_owned()) }
}

/// Reads a time such as `500ms`, `30s` or `2min`.
///
/// # Errors
/// Says what was expected.
pub fn duration(text: &str) -> Result<Time, String> {
    text.parse().map_err(|_| "expected a time such as 500ms, 30s or 2min".to_owned())
}

/// Reads the settings of a program from its command line and its environment; help, and what cannot be, end the process.
///
/// An empty variable is an unset one, whatever its setting: compose files and shells leave them so.
#[must_use]
pub fn parse<P: Parser>() -> P {
    let mut command = for_people(without_empty_variables(P::command()));
    let read = P::from_arg_matches_mut(&mut command.get_matches_mut());
    read.unwrap_or_else(|error| error.format(&mut command).exit())
}

/// The help of the commands that ask a server elsewhere is about what they take, not about how a server is set up.
fn for_people(mut command: Command) -> Command {
    // From here on the global arguments are in the subcommands.
    command.build();
    for name in ["feed", "ask"] {
        if command.find_subcommand(name).is_some() {
            let hidden = |arg: clap::Arg| if arg.is_global_set() { arg.hide(true) } else { arg };
            command = command.mut_subcommand(name, |command| command.mut_args(hidden));
        }
    }
    command
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

fn bytes_under_way(text: &str) -> Result<ByteSize, String> {
    let size = byte_size(text)?;
    if size.0 >= LEASE_MAX_BYTES as u64 { Ok(size) } else { Err("expected 8MiB or more".to_owned()) }
}

/// How long processing one datum may take, unless it is configured otherwise; milliseconds are usual.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(10);

/// The text that is under way at once, unless it is configured otherwise. With it a process of any concurrency stays under
/// 512 MiB, as the compose file limits a worker: see the test of the worker's memory.
const MAX_BYTES_UNDER_WAY: ByteSize = ByteSize::mib(32);

/// Where the queue and the store are, and how they are used.
#[derive(Args, Clone)]
pub struct BackendArgs {
    /// Where Redis is: `redis://user:password@host:port/db`, or `rediss://…` for TLS. Several with commas: a Redis Cluster.
    ///
    /// A password is better kept in the environment or in a file, where it stays out of the process list.
    #[arg(long, global = true, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<SecretString>,

    /// A file that holds the Redis URL.
    #[arg(long, global = true, env = "REDIS_URL_FILE", value_name = "FILE", conflicts_with = "redis_url")]
    pub redis_url_file: Option<PathBuf>,

    /// A file with the certificates (PEM) of who signed those of Redis, for `rediss://`. Left out: whom the system trusts.
    #[arg(long, global = true, env = "REDIS_CA_FILE", value_name = "FILE")]
    pub redis_ca_file: Option<PathBuf>,

    /// Where MongoDB is: `mongodb://user:password@host:port/database?replicaSet=rs0`. A replica set, since the index follows
    /// its change stream. The database is multivac if the URL names none. For TLS add `&tls=true`, and
    /// `&tlsCAFile=/path/to/ca.pem` where the servers' certificates are of an authority of your own; `&authSource=admin` where
    /// the user is kept there.
    #[arg(long, global = true, env = "MONGO_URL", hide_env_values = true, value_name = "URL")]
    pub mongo_url: Option<SecretString>,

    /// A file that holds the MongoDB URL.
    #[arg(long, global = true, env = "MONGO_URL_FILE", value_name = "FILE", conflicts_with = "mongo_url")]
    pub mongo_url_file: Option<PathBuf>,

    /// The prefix of every key in Redis. Installations that share a Redis differ in it.
    #[arg(long, global = true, env = "MULTIVAC_NAMESPACE", default_value = "multivac", value_name = "NAME")]
    pub namespace: String,

    /// Streams that the queue is spread over; more than 1 for a Redis Cluster. The same for every process.
    #[arg(long, global = true, env = "MULTIVAC_PARTITIONS", default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: u16,

    /// How long a leased job stays hidden from others; a killed worker's jobs pass on after that time. Such as 30s.
    #[arg(long, global = true, env = "MULTIVAC_LEASE", default_value_t = QueueSettings::default().lease.into(),
          value_parser = duration, value_name = "TIME")]
    pub lease: Time,

    /// Attempts at a job before it moves to the dead letters.
    #[arg(long, global = true, env = "MULTIVAC_MAX_ATTEMPTS", default_value_t = QueueSettings::default().max_attempts,
          value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_attempts: u32,

    /// How long processing one datum may take before its attempt has failed. Such as 10s; milliseconds are usual.
    #[arg(long, global = true, env = "MULTIVAC_PROCESS_TIMEOUT", default_value_t = PROCESS_TIMEOUT.into(),
          value_parser = duration, value_name = "TIME")]
    pub process_timeout: Time,

    /// How much text is learned at once, over all batches under way, such as 64MiB; at least 8MiB. Memory needs several times
    /// as much: lower it where that is scarce, and raise it where many large data are learned.
    #[arg(long, global = true, env = "MULTIVAC_MAX_BYTES_UNDER_WAY", default_value_t = MAX_BYTES_UNDER_WAY,
          value_parser = bytes_under_way, value_name = "SIZE")]
    pub max_bytes_under_way: ByteSize,

    /// That backups and drills are made of these data regularly: /metrics then shows 0 for one that never succeeded, so that
    /// the alert BackupMissing tells it.
    #[arg(long, global = true, env = "MULTIVAC_EXPECT_BACKUPS")]
    pub expect_backups: bool,
}

/// Redis and MongoDB, both or neither.
pub struct ServerUrls {
    /// Redis; several are a cluster.
    pub redis: Vec<SecretString>,
    /// Who signed the certificates of Redis (PEM); `None`: whom the system trusts.
    pub redis_ca: Option<Vec<u8>>,
    /// MongoDB.
    pub mongo: SecretString,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Half of the two servers.
    #[error("{given} is set and {missing} is not: MultiVAC needs both (the full system) or neither (the embedded one)")]
    OnlyOne {
        /// The one that is set.
        given: &'static str,
        /// The other.
        missing: &'static str,
    },
    /// A secret's file.
    #[error("{variable}: {path} cannot be read: {source}")]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Invalid(String),
}

impl BackendArgs {
    /// Those that concern the queue; how much it may hold is a setting of the api alone.
    #[must_use]
    pub fn queue_settings(&self) -> QueueSettings {
        QueueSettings { lease: *self.lease, max_attempts: self.max_attempts, ..QueueSettings::default() }
    }

    /// How much text is learned at once, in bytes.
    #[must_use]
    pub fn max_bytes_under_way(&self) -> usize {
        usize::try_from(self.max_bytes_under_way.0).unwrap_or(usize::MAX)
    }

    /// The servers' URLs, out of the environment or out of files; `None` when neither is set.
    ///
    /// # Errors
    /// When only one is set, a file cannot be read, or a value cannot be.
    pub fn server_urls(&self) -> Result<Option<ServerUrls>, ConfigError> {
        if *self.lease < Duration::from_millis(100) {
            return Err(ConfigError::Invalid("--lease is too short: expected at least 100ms".to_owned()));
        }
        if *self.process_timeout < Duration::from_millis(10) {
            return Err(ConfigError::Invalid("--process-timeout is too short: expected at least 10ms".to_owned()));
        }
        let bad = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
        if self.namespace.is_empty() || self.namespace.contains(bad) {
            let expected = "--namespace: expected letters, digits, '-', '_', '.' or ':'";
            return Err(ConfigError::Invalid(expected.to_owned()));
        }
        let redis = secret(self.redis_url.as_ref(), self.redis_url_file.as_deref(), "REDIS_URL_FILE")?;
        let mongo = secret(self.mongo_url.as_ref(), self.mongo_url_file.as_deref(), "MONGO_URL_FILE")?;
        match (redis, mongo) {
            (Some(redis), Some(mongo)) => {
                let urls = redis.expose_secret().split(',').map(str::trim).filter(|url| !url.is_empty());
                let redis = urls.map(SecretString::from).collect();
                Ok(Some(ServerUrls { redis, redis_ca: self.redis_ca()?, mongo }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(ConfigError::OnlyOne { given: "REDIS_URL", missing: "MONGO_URL" }),
            (None, Some(_)) => Err(ConfigError::OnlyOne { given: "MONGO_URL", missing: "REDIS_URL" }),
        }
    }
}

impl BackendArgs {
    fn redis_ca(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = self.redis_ca_file.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let unreadable =
            |source| ConfigError::Unreadable { variable: "REDIS_CA_FILE", path: path.display().to_string(), source };
        std::fs::read(path).map(Some).map_err(unreadable)
    }
}

/// A value, or what its file holds; empty is unset, as compose files and shells leave variables.
fn secret(
    value: Option<&SecretString>,
    file: Option<&std::path::Path>,
    variable: &'static str,
) -> Result<Option<SecretString>, ConfigError> {
    let value = match (value, file) {
        (Some(value), _) => value.clone(),
        (None, Some(path)) if !path.as_os_str().is_empty() => std::fs::read_to_string(path)
            .map(SecretString::from)
            .map_err(|source| ConfigError::Unreadable { variable, path: path.display().to_string(), source })?,
        (None, _) => return Ok(None),
    };
    let value = value.expose_secret().trim();
    Ok((!value.is_empty()).then(|| SecretString::from(value)))
}

/// How a program speaks.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// How log lines are written. Left out: text on a terminal, else json. RUST_LOG chooses what is logged.
    #[arg(long, global = true, env = "MULTIVAC_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// The project of Google Cloud that traces belong to, with --log-format gcp. Left out: GOOGLE_CLOUD_PROJECT, or what the
    /// metadata server says; without one the lines have the bare id of their trace.
    #[arg(long, global = true, env = "MULTIVAC_GCP_PROJECT", value_name = "PROJECT",
          value_parser = crate::observe::gcp_project::parse)]
    pub gcp_project: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_units() {
        for (text, bytes) in [("1MiB", 1 << 20), ("512 KiB", 512 << 10), ("77", 77), ("2GiB", 2 << 30)] {
            assert_eq!(byte_size(text), Ok(ByteSize(bytes)));
        }
        for wrong in ["", "MiB", "1MB", "-1", "much", "99999999999999999999", "99999999999999GiB"] {
            assert!(byte_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_take_units() {
        let read = |text| duration(text).map(|time| *time);
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(read("2min"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_setting_or_told_what_was_expected(text in "[0-9]{0,25} ?([KMG]iB|B|ms|s|min|h)?|.{0,20}") {
            if let Err(expected) = byte_size(&text) {
                proptest::prop_assert!(expected.contains("1MiB"));
            }
            if let Err(expected) = duration(&text) {
                proptest::prop_assert!(expected.contains("30s"));
            }
        }
    }
}
