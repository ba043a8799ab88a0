//! MongoDB's URL: which of its options are the driver's, which are ours, and which are passed over.
//!
//! A URL that served another program, such as the original application with pymongo, serves this one. The driver refuses
//! options that it does not know or was not built for; the [specification] asks for a warning, and so do we. What is
//! known and cannot be read is an error, which names the option and never its value: that may be a secret.
//!
//! [specification]: https://github.com/mongodb/specifications/blob/master/source/uri-options/uri-options.md

use std::time::Duration;

use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, ConnectionString};
use secrecy::{ExposeSecret, SecretString};

use crate::store::StoreError;

/// What an option's value is.
#[derive(Clone, Copy)]
enum Value {
    Text,
    Bool,
    /// A whole number, this or more.
    From(u64),
    OneOf(&'static [&'static str]),
}

/// The options that the driver takes, and what they are.
const DRIVER: [(&str, Value); 25] = [
    ("appName", Value::Text),
    ("authMechanism", Value::OneOf(&["SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509", "PLAIN"])),
    ("authMechanismProperties", Value::Text),
    ("authSource", Value::Text),
    ("connectTimeoutMS", Value::From(0)),
    ("directConnection", Value::Bool),
    ("enableOverloadRetargeting", Value::Bool),
    ("heartbeatFrequencyMS", Value::From(500)),
    ("loadBalanced", Value::Bool),
    ("localThresholdMS", Value::From(0)),
    ("maxAdaptiveRetries", Value::From(0)),
    ("maxConnecting", Value::From(1)),
    ("maxIdleTimeMS", Value::From(0)),
    ("maxPoolSize", Value::From(0)),
    ("minPoolSize", Value::From(0)),
    ("replicaSet", Value::Text),
    ("retryReads", Value::Bool),
    ("serverMonitoringMode", Value::OneOf(&["auto", "stream", "poll"])),
    ("serverSelectionTimeoutMS", Value::From(0)),
    ("srvMaxHosts", Value::From(0)),
    ("srvServiceName", Value::Text),
    ("tls", Value::Bool),
    ("ssl", Value::Bool),
    ("tlsInsecure", Value::Bool),
    ("tlsAllowInvalidCertificates", Value::Bool),
];

/// As above: files.
const DRIVER_FILES: [&str; 2] = ["tlsCAFile", "tlsCertificateKeyFile"];

/// Options with which we keep the store's promises, and the only values that do.
const FIXED: [(&str, &str); 6] = [
    ("w", "majority"),
    ("journal", "true"),
    ("j", "true"),
    ("readConcernLevel", "majority"),
    ("readPreference", "primary"),
    ("retryWrites", "true"),
];

/// Options that bound how long a call takes: ours are bounded by them too.
const TIMEOUTS: [&str; 2] = ["socketTimeoutMS", "timeoutMS"];

/// No call of ours takes longer anyway.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A URL that was read.
pub(super) struct MongoUrl {
    /// With the options alone that the driver takes.
    driver: SecretString,
    /// How long a call may take, where the URL says so.
    pub(super) call_timeout: Option<Duration>,
    /// The options that are passed over, by their names.
    pub(super) passed_over: Vec<String>,
}

impl MongoUrl {
    /// Reads a URL; asks no server.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]: it is none, or one of its options cannot be read.
    pub(super) fn parse(url: &SecretString) -> Result<Self, StoreError> {
        let url = url.expose_secret();
        let (servers, options) = url.split_once('?').unwrap_or((url, ""));
        let (mut kept, mut names) = (Vec::new(), Vec::<String>::new());
        let (mut call_timeout, mut passed_over) = (None, Vec::new());
        for pair in options.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(not_a_url)?;
            if names.iter().any(|known| known.eq_ignore_ascii_case(name)) && !is(name, "readPreferenceTags") {
                return Err(unreadable(name, "to be there once"));
            }
            names.push(name.to_owned());
            let driver = DRIVER.iter().find(|(known, _)| is(name, known)).map(|(_, value)| *value);
            let driver = driver.or(DRIVER_FILES.iter().any(|known| is(name, known)).then_some(Value::Text));
            let fixed = FIXED.iter().find(|(known, _)| is(name, known)).map(|(_, value)| *value);
            if TIMEOUTS.iter().any(|known| is(name, known)) {
                Value::From(0).check(name, value)?;
                match value.parse().map(Duration::from_millis) {
                    Ok(limit) if !limit.is_zero() && limit <= LONGEST_TIMEOUT => {
                        call_timeout = Some(call_timeout.map_or(limit, |other: Duration| other.min(limit)));
                    }
                    _ => passed_over.push(name.to_owned()),
                }
            } else if let (Some(expected), false) = (driver, value.is_empty()) {
                expected.check(name, value)?;
                kept.push(pair);
            } else if fixed.is_none_or(|ours| ours != value) {
                // A name that looks like none may be the rest of a password in which `?` was not encoded.
                let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
                if !is_name || options.contains('@') {
                    return Err(not_a_url());
                }
                passed_over.push(name.to_owned());
            }
        }
        let driver = if kept.is_empty() { servers.to_owned() } else { format!("{servers}?{}", kept.join("&")) };
        ConnectionString::parse(&driver).map_err(|_| not_a_url())?;
        Ok(Self { driver: driver.into(), call_timeout, passed_over })
    }

    /// The driver's options. For a `mongodb+srv` URL, DNS is asked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: DNS does not know the name yet, or does not reply. [`StoreError::Misconfigured`]: the
    /// options contradict each other.
    pub(super) async fn options(&self) -> Result<ClientOptions, StoreError> {
        let url = self.driver.expose_secret();
        ClientOptions::parse(url).await.map_err(|error| match *error.kind {
            // The driver's text may quote a password: in `mongodb://user:secret/` it takes `secret` for the port.
            ErrorKind::InvalidArgument { .. } => not_a_url(),
            _ => does_not_resolve(),
        })
    }
}

impl Value {
    fn check(self, name: &str, value: &str) -> Result<(), StoreError> {
        let (good, expected) = match self {
            Self::Text => (!value.is_empty(), "a value".to_owned()),
            Self::Bool => (matches!(value, "true" | "false"), "true or false".to_owned()),
            Self::From(least) => {
                let number = value.parse::<u64>();
                let good = number.is_ok_and(|number| number >= least && number <= u64::from(u32::MAX));
                (good, format!("a whole number from {least} to {}", u32::MAX))
            }
            Self::OneOf(all) => (all.iter().any(|one| one.eq_ignore_ascii_case(value)), all.join(", ")),
        };
        if good { Ok(()) } else { Err(unreadable(name, &expected)) }
    }
}

fn is(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

fn unreadable(name: &str, expected: &str) -> StoreError {
    StoreError::Misconfigured(format!("the option {name} in MongoDB's URL: expected {expected}"))
}

fn not_a_url() -> StoreError {
    StoreError::Misconfigured(
        "not a MongoDB URL, or its options contradict each other: expected \
         mongodb://[user:password@]host[:port][/database][?option=value&…], special characters in user and password \
         percent-encoded"
            .into(),
    )
}

/// The error for a name that DNS does not know, which it may later.
pub(super) fn does_not_resolve() -> StoreError {
    StoreError::Unavailable { message: "DNS does not know the name in MongoDB's URL".into(), source: None }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
