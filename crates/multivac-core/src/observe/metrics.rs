//! Every metric: name, unit, meaning. Served as Prometheus text by both programs.

use std::sync::LazyLock;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

fn counter(name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect("a metric's name is valid");
    REGISTRY.register(Box::new(counter.clone())).expect("each metric is registered once");
    counter
}

fn gauge(name: &str, help: &str) -> Gauge {
    let gauge = Gauge::new(name, help).expect("a metric's name is valid");
    REGISTRY.register(Box::new(gauge.clone())).expect("each metric is registered once");
    gauge
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(options).expect("a metric's name and buckets are valid");
    REGISTRY.register(Box::new(histogram.clone())).expect("each metric is registered once");
    histogram
}

const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Data accepted by this process.
pub static ACCEPTED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("multivac_accepted_total", "Data that this process accepted."));
/// Data that found no room.
pub static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("multivac_refused_total", "Data that this process refused because the queue held as much as it may.")
});
/// Data learned by this process.
pub static LEARNED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("multivac_learned_total", "Jobs that this process completed."));
/// Failed attempts.
pub static FAILED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("multivac_failed_attempts_total", "Attempts at a job that failed in this process."));
/// Jobs given up.
pub static DEAD: LazyLock<IntCounter> =
    LazyLock::new(|| counter("multivac_dead_total", "Jobs that this process moved to the dead letters."));
/// Jobs that vanished.
pub static LOST: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("multivac_lost_total", "Accepted data whose jobs this process found to be gone from the queue's server.")
});
/// Failed calls to the queue.
pub static QUEUE_ERRORS: LazyLock<IntCounter> =
    LazyLock::new(|| counter("multivac_queue_errors_total", "Calls to the queue that failed."));
/// Dangerous settings of the queue's server.
pub static QUEUE_WARNINGS: LazyLock<Gauge> = LazyLock::new(|| {
    gauge(
        "multivac_queue_warnings",
        "Settings of the queue's server under which accepted data could be lost; /readyz and the log name them.",
    )
});
/// Text of unfinished jobs.
pub static QUEUE_BYTES: LazyLock<Gauge> =
    LazyLock::new(|| gauge("multivac_queue_bytes", "Bytes of text that the queue's unfinished jobs hold."));
/// Age of the oldest unfinished job.
pub static QUEUE_OLDEST_SECONDS: LazyLock<Gauge> = LazyLock::new(|| {
    gauge("multivac_queue_oldest_seconds", "Seconds since the oldest unfinished job was accepted; 0 without one.")
});
/// How fast the queue drains.
pub static QUEUE_DRAINED_PER_SECOND: LazyLock<Gauge> = LazyLock::new(|| {
    gauge("multivac_queue_drained_per_second", "Jobs a second that left the queue, over the last ten seconds.")
});
/// Failed calls to the store.
pub static STORE_ERRORS: LazyLock<IntCounter> =
    LazyLock::new(|| counter("multivac_store_errors_total", "Calls to the store that failed."));
/// Batches that wait for the store.
pub static STORE_WAITING: LazyLock<Gauge> = LazyLock::new(|| {
    gauge("multivac_store_waiting", "Batches that wait for the store, which does not reply or cannot take them now.")
});
/// From accepted to completed.
pub static LEARN_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram("multivac_learn_seconds", "Seconds from accepting a datum to its being learned.", SECONDS)
});
/// Questions, by how they came out.
pub static ANSWERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = Opts::new("multivac_answers_total", "Questions replied to, by status.");
    let answers = IntCounterVec::new(options, &["status"]).expect("a metric's name and labels are valid");
    REGISTRY.register(Box::new(answers.clone())).expect("each metric is registered once");
    answers
});
/// Time to answer.
pub static ANSWER_SECONDS: LazyLock<Histogram> =
    LazyLock::new(|| histogram("multivac_answer_seconds", "Seconds to answer a question.", SECONDS));
/// Requests, by route, method and status.
pub static REQUEST_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options =
        HistogramOpts::new("multivac_http_request_seconds", "Seconds to reply to a request.").buckets(SECONDS.to_vec());
    let seconds = HistogramVec::new(options, &["route", "method", "status"]).expect("a metric's name is valid");
    REGISTRY.register(Box::new(seconds.clone())).expect("each metric is registered once");
    seconds
});
/// The ledger's counts, by name.
pub static LEDGER: LazyLock<prometheus::GaugeVec> = LazyLock::new(|| {
    let options = Opts::new("multivac_data", "The ledger: data by where they stand, and accepted, which is their sum.");
    let data = prometheus::GaugeVec::new(options, &["state"]).expect("a metric's name and labels are valid");
    REGISTRY.register(Box::new(data.clone())).expect("each metric is registered once");
    data
});
/// Passages in this replica's index.
pub static PASSAGES: LazyLock<Gauge> =
    LazyLock::new(|| gauge("multivac_index_passages", "Passages in this replica's index."));
/// Interruptions of following the store.
pub static FOLLOW_ERRORS: LazyLock<Gauge> =
    LazyLock::new(|| gauge("multivac_index_follow_errors", "How often following the store was interrupted."));
/// Whether the index follows the store.
pub static FOLLOWING: LazyLock<Gauge> =
    LazyLock::new(|| gauge("multivac_index_following", "1 while the index follows the store."));

/// Whether the replica may not answer.
pub static FENCED: LazyLock<Gauge> = LazyLock::new(|| {
    gauge("multivac_fenced", "1 while this replica answers no question, since it cannot know what was retracted.")
});

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics that this process has touched, as Prometheus text.
#[must_use]
pub fn render() -> Vec<u8> {
    let mut text = Vec::new();
    // Writing to memory fails for a metric without samples alone, and that is left out.
    let _ = TextEncoder::new().encode(&REGISTRY.gather(), &mut text);
    text
}
