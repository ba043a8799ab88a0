//! Every metric: name, unit, meaning. Served by both programs as Prometheus' text format or, where that is asked for, as
//! OpenMetrics with exemplars. docs/metrics.md says what each is good for; a test compares it with what is served.
//!
//! All that a program has are there from its first scrape: counters at 0, and gauges as soon as their value is known.
//! What is read from a server is forgotten when the server cannot be asked, since an old value would look like a present one.

mod kinds;
mod process;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use kinds::{By, Gauge, Held, Histogram, Reading, Requests};

/// Up to 5 minutes: what takes longer is stuck.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Up to 10 minutes, with the objective's 30 seconds among them.
const LONG_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// As many jobs as a batch may have.
const BATCH_SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0];

/// A part of a program, which has metrics of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The HTTP server, with its index.
    Api = 1,
    /// The consumer: in the worker, and in the api when it is embedded.
    Consumer = 2,
}

/// The parts that run in this process, as bits.
static PARTS: AtomicU8 = AtomicU8::new(0);

/// Shows the metrics of a part from now on.
pub fn show(part: Part) {
    PARTS.fetch_or(part as u8, Ordering::Relaxed);
}

/// Declares metrics, and a function that registers all of them. A counter's name ends in `_total`.
macro_rules! metrics {
    ($($register:ident: { $($(#[$doc:meta])* $name:ident: $kind:ty = $new:expr, $metric:literal, $help:literal;)* })*) => {
        $($($(#[$doc])* pub static $name: LazyLock<$kind> = LazyLock::new(|| $new);)*)*
        $(fn $register(registry: &mut Registry) {
            // The library adds what belongs to a counter's name, and the full stop.
            $(registry.register($metric.trim_end_matches("_total"), $help, $name.clone());)*
        })*
    };
}

metrics! {
    register_common: {
        /// Whether the process is ready.
        READY: Gauge = Gauge::default(), "multivac_ready", "1 while this process is ready, as /readyz says it";
        /// Whether the queue and the store can be reached.
        REACHABLE: By<Reading> = By::new("backend", &["queue", "store"]), "multivac_reachable",
            "1 while the backend replies to this process within 2 seconds";
        /// Failed calls to the queue.
        QUEUE_ERRORS: Counter = Counter::default(), "multivac_queue_errors_total", "Calls to the queue that failed";
        /// Failed calls to the store.
        STORE_ERRORS: Counter = Counter::default(), "multivac_store_errors_total", "Calls to the store that failed";
        /// Dangerous settings of the queue's server.
        QUEUE_WARNINGS: Reading = Reading::default(), "multivac_queue_warnings",
            "Settings of the queue's server under which accepted data could be lost; /readyz and the log name them";
        /// Memory of the queue's server.
        QUEUE_SERVER_MEMORY: Reading = Reading::default(), "multivac_queue_server_memory_bytes",
            "Memory that Redis uses; of a Cluster, that of the node with the least room";
        /// Its limit.
        QUEUE_SERVER_MEMORY_MAX: Reading = Reading::default(), "multivac_queue_server_memory_max_bytes",
            "Memory that Redis may use (maxmemory), of the same node; absent without a limit";
        /// The ledger's counts, by name.
        LEDGER: By<Reading> =
            By::new("state", &["accepted", "queued", "processing", "learned", "retracted", "dead"]), "multivac_data",
            "The ledger: data by where they stand, and accepted, which is their sum";
        /// Unfinished jobs.
        QUEUE_UNFINISHED: Reading = Reading::default(), "multivac_queue_unfinished",
            "Jobs that are queued or processing";
        /// Text of unfinished jobs.
        QUEUE_BYTES: Reading = Reading::default(), "multivac_queue_bytes",
            "Bytes of text that the queue's unfinished jobs hold";
        /// Age of the oldest unfinished job.
        QUEUE_OLDEST_SECONDS: Reading = Reading::default(), "multivac_queue_oldest_seconds",
            "Seconds since the oldest unfinished job was accepted; 0 without one";
        /// Room on disks.
        DISK_FREE: By<Reading> = By::new("disk", &["store", "index"]), "multivac_disk_free_bytes",
            "Room that is left on the disk of the store (MongoDB's, or that of the embedded file) or of this replica's index";
        /// Size of disks.
        DISK_SIZE: By<Reading> = By::new("disk", &["store", "index"]), "multivac_disk_size_bytes", "Size of that disk";
        /// When the last backup and the last drill succeeded.
        BACKUP_COMPLETED: By<Reading> = By::new("kind", &["backup", "drill"]),
            "multivac_backup_completed_timestamp_seconds",
            "When the last backup or drill succeeded, in seconds since 1970; without one 0 where backups are expected, else absent";
        /// Jobs that vanished.
        LOST: Counter = Counter::default(), "multivac_lost_total",
            "Accepted data whose jobs this process found to be gone from the queue's server";
    }
    register_api: {
        /// Room in the queue.
        QUEUE_LIMIT: Reading = Reading::default(), "multivac_queue_limit",
            "Unfinished jobs that the queue may hold (--max-queued)";
        /// Room for their text.
        QUEUE_LIMIT_BYTES: Reading = Reading::default(), "multivac_queue_limit_bytes",
            "Bytes of text that they may hold (--max-queued-bytes)";
        /// How fast the queue drains.
        QUEUE_DRAINED_PER_SECOND: Reading = Reading::default(), "multivac_queue_drained_per_second",
            "Jobs a second that left the queue, over the last ten seconds";
        /// Data accepted by this process.
        ACCEPTED: Counter = Counter::default(), "multivac_accepted_total", "Data that this process accepted";
        /// Data that were accepted before.
        ACCEPTED_AGAIN: Counter = Counter::default(), "multivac_accepted_again_total",
            "Data that came again with an Idempotency-Key, and were accepted before";
        /// Data that found no room.
        REFUSED: Counter = Counter::default(), "multivac_refused_total",
            "Data that this process refused because the queue held as much as it may";
        /// Data that were not accepted, by why.
        ACCEPT_FAILURES: By<Counter> =
            By::new("reason", &["full", "key_of_other_text", "not_durable", "unavailable", "outcome_unknown"]),
            "multivac_accept_failures_total", "Data that were sent and not accepted, or of which that is unknown, by reason";
        /// Retractions, by how they came out.
        RETRACTIONS: By<Counter> = By::new("outcome", &["everywhere", "pending", "failed"]), "multivac_retractions_total",
            "Retractions: seen by every replica in time (204), not by all of them yet (202), or failed (5xx)";
        /// Questions, by how they came out.
        ANSWERS: By<Counter> = By::new("status", &["answered", "insufficient_data", "fenced"]), "multivac_answers_total",
            "Questions replied to, by status; fenced are those that this replica could not answer";
        /// Time to answer.
        ANSWER_SECONDS: Histogram = Histogram::new(SECONDS), "multivac_answer_seconds", "Seconds to answer a question";
        /// Searches that a limit has cut off.
        SEARCHES_BOUNDED: Counter = Counter::default(), "multivac_searches_bounded_total",
            "Searches that did not look at all passages that could have been among the best";
        /// Requests, by route, method and status.
        REQUEST_SECONDS: Requests = Requests::default(), "multivac_http_request_seconds", "Seconds to reply to a request";
        /// Open connections.
        HTTP_CONNECTIONS: Gauge = Gauge::default(), "multivac_http_connections", "Connections that clients hold open";
        /// Open event streams.
        EVENT_STREAMS: Gauge = Gauge::default(), "multivac_event_streams", "Clients that follow events";
        /// Event streams that ended, by why.
        EVENT_STREAMS_ENDED: By<Counter> = By::new("reason", &["left", "slow", "stopping", "fenced", "failed"]),
            "multivac_event_streams_ended_total", "Event streams that ended, by reason";
        /// From accepted to answerable.
        ANSWERABLE_SECONDS: Histogram = Histogram::new(LONG_SECONDS), "multivac_answerable_seconds",
            "Seconds from accepting a datum to its being in this replica's index; of data accepted since that had caught up";
        /// Passages in this replica's index.
        PASSAGES: Gauge = Gauge::default(), "multivac_index_passages", "Passages in this replica's index";
        /// Whether the index follows the store.
        FOLLOWING: Gauge = Gauge::default(), "multivac_index_following", "1 while the index follows the store";
        /// How far the index is behind, in time.
        INDEX_LAG_SECONDS: Reading = Reading::default(), "multivac_index_lag_seconds",
            "Seconds since the index last reflected all that the store had";
        /// How far the index is behind, in data.
        INDEX_LAG_DATA: Reading = Reading::default(), "multivac_index_lag_data",
            "Data that the store has and this replica's index does not";
        /// Size of the index.
        INDEX_BYTES: Reading = Reading::default(), "multivac_index_bytes", "Bytes of this replica's index on its disk";
        /// How long filling the index took.
        INDEX_LOAD_SECONDS: Reading = Reading::default(), "multivac_index_load_seconds",
            "Seconds that it took to fill the index from the store, the last time";
        /// How far filling the index has come.
        INDEX_LOADED_RATIO: Reading = Reading::default(), "multivac_index_loaded_ratio",
            "How much of the store is in the index while that is filled, from 0 to 1; then 1";
        /// Whether the index can be written.
        INDEX_UNWRITABLE: Gauge = Gauge::default(), "multivac_index_unwritable", "1 while the index cannot be written";
        /// Interruptions of following the store.
        FOLLOW_ERRORS: Counter = Counter::default(), "multivac_index_follow_errors_total",
            "How often following the store was interrupted";
        /// Whether the replica may not answer.
        FENCED: Gauge = Gauge::default(), "multivac_fenced",
            "1 while this replica answers no question, since it cannot know what was retracted";
    }
    register_consumer: {
        /// Data learned by this process.
        LEARNED: Counter = Counter::default(), "multivac_learned_total", "Data that this process learned";
        /// Jobs of data that were retracted before.
        LEARNED_RETRACTED: Counter = Counter::default(), "multivac_learned_retracted_total",
            "Jobs that this process completed whose datum had been retracted before it was learned";
        /// Failed attempts.
        FAILED: Counter = Counter::default(), "multivac_failed_attempts_total",
            "Attempts at a job that failed in this process";
        /// Jobs given up.
        DEAD: Counter = Counter::default(), "multivac_dead_total", "Jobs that this process moved to the dead letters";
        /// From accepted to completed.
        LEARN_SECONDS: Histogram = Histogram::new(SECONDS), "multivac_learn_seconds",
            "Seconds from accepting a datum to its being learned";
        /// Sizes of batches.
        BATCH_DATA: Histogram = Histogram::new(BATCH_SIZES), "multivac_batch_data", "Jobs that were leased at once";
        /// Consumer loops.
        LOOPS: Gauge = Gauge::default(), "multivac_consumer_loops", "Consumer loops of this process (--concurrency)";
        /// Consumer loops with a batch.
        LOOPS_BUSY: Gauge = Gauge::default(), "multivac_consumer_loops_busy", "Consumer loops that have a batch";
        /// Leases held.
        LEASES: Gauge = Gauge::default(), "multivac_leases", "Leases that this process holds";
        /// Leases that ran out.
        LEASES_EXPIRED: Counter = Counter::default(), "multivac_leases_expired_total",
            "Leases that ran out, of this process or another, and whose jobs this process leased again";
        /// Batches that wait for the store.
        STORE_WAITING: Gauge = Gauge::default(), "multivac_store_waiting",
            "Batches that wait for the store, which does not reply or cannot take them now";
    }
}

/// Has a series of requests from the start, so that its counts begin at 0.
pub fn expect_requests(route: &'static str, method: &'static str, status: &'static str) {
    REQUEST_SECONDS.expect(route.into(), method, status.into());
}

/// What the build was given as its version; the package's otherwise.
#[must_use]
pub fn version() -> &'static str {
    option_env!("MULTIVAC_BUILD_VERSION").filter(|version| !version.is_empty()).unwrap_or(env!("CARGO_PKG_VERSION"))
}

fn revision() -> &'static str {
    option_env!("MULTIVAC_BUILD_REVISION").filter(|revision| !revision.is_empty()).unwrap_or("unknown")
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    let parts = PARTS.load(Ordering::Relaxed);
    let runs = |part: Part| parts & part as u8 != 0;
    let program = if runs(Part::Api) { "api" } else { "worker" };
    let build = vec![("program", program), ("version", version()), ("revision", revision())];
    registry.register("multivac_build", "What this process was built from; always 1", Info::new(build));
    register_common(&mut registry);
    if runs(Part::Api) {
        register_api(&mut registry);
    }
    if runs(Part::Consumer) {
        register_consumer(&mut registry);
    }
    registry.register_collector(Box::new(process::ThisProcess));
    registry
}

/// The content type of OpenMetrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of this process, in the format that an `Accept` header asks for, and their content type. Asks no server.
#[must_use]
pub fn render(accept: Option<&str>) -> (&'static str, String) {
    let (registry, mut text) = (registry(), String::new());
    // Writing to memory does not fail.
    if accept.is_some_and(prefers_openmetrics) {
        let _ = text::encode(&mut text, &registry);
        (OPENMETRICS, text)
    } else {
        let _ = prometheus_text::encode(&mut text, &registry);
        (prometheus_text::CONTENT_TYPE, text)
    }
}

/// Whether OpenMetrics is named, and nothing that text/plain is comes before it: by its `q`, which is 1 where it is left out.
fn prefers_openmetrics(accept: &str) -> bool {
    let quality = |wanted: &[&str], other_version: bool| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_meant =
                parts.next().is_some_and(|name| wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)));
            let (mut quality, mut fits) = (1.0, true);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    Some(("version", value)) => fits = other_version || value.trim_matches('"') == "1.0.0",
                    _ => {}
                }
            }
            (is_meant && fits).then_some(quality)
        });
        ranges.fold(0.0, f64::max)
    };
    let openmetrics = quality(&["application/openmetrics-text"], false);
    openmetrics > 0.0 && openmetrics >= quality(&["text/plain", "text/*"], true)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
