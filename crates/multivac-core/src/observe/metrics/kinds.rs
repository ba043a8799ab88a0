//! Kinds of metrics that the library does not have as they are needed: gauges whose value may be unknown, histograms that
//! note the trace of what they count, and series with a fixed set of labels.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;

/// A count, or a flag, that is always known.
pub type Gauge = prometheus_client::metrics::gauge::Gauge;

/// A gauge whose value may be unknown, and is left out then. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading(Arc<AtomicU64>);

/// Stands for an unknown value, since no reading is one.
const UNKNOWN: u64 = f64::NAN.to_bits();

impl Default for Reading {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNKNOWN)))
    }
}

impl Reading {
    /// Notes its value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Notes its value, or that it is unknown.
    pub fn set_if_known(&self, value: Option<f64>) {
        self.set(value.unwrap_or(f64::NAN));
    }

    /// Notes that its value is unknown.
    pub fn forget(&self) {
        self.set_if_known(None);
    }

    /// Its value, where that is known.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|value| !value.is_nan())
    }
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.get() {
            // Counts without a fraction, as Prometheus' other clients write them.
            Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => encoder.encode_gauge(&(value as i64)),
            Some(value) => encoder.encode_gauge(&value),
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

/// Series with one label, whose values are known from the start. Cheap to clone.
#[derive(Debug)]
pub struct By<M> {
    label: &'static str,
    series: Arc<[(&'static str, M)]>,
}

impl<M> Clone for By<M> {
    fn clone(&self) -> Self {
        Self { label: self.label, series: Arc::clone(&self.series) }
    }
}

impl<M: Default> By<M> {
    pub(super) fn new(label: &'static str, values: &[&'static str]) -> Self {
        Self { label, series: values.iter().map(|value| (*value, M::default())).collect() }
    }
}

impl<M> By<M> {
    /// The series of a value of the label, which is one of those that the metric was declared with.
    #[must_use]
    pub fn of(&self, value: &str) -> &M {
        let series = self.series.iter().find(|(of, _)| *of == value);
        series.map(|(_, metric)| metric).expect("the label's values are written down beside the metric")
    }
}

impl EncodeMetric for By<Counter> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, counter) in self.series.iter() {
            counter.encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for By<Reading> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, reading) in self.series.iter().filter(|(_, reading)| !reading.is_empty()) {
            reading.encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.series.iter().all(|(_, reading)| reading.is_empty())
    }
}

/// The label of an exemplar.
type Trace = [(&'static str, String); 1];

/// A histogram that notes, for each bucket, the last sampled trace that fell into it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Histogram(HistogramWithExemplars<Trace>);

impl Histogram {
    pub(super) fn new(buckets: &'static [f64]) -> Self {
        Self(HistogramWithExemplars::new(buckets.iter().copied()))
    }

    /// Counts a value, in the current trace.
    pub fn observe(&self, value: f64) {
        self.0.observe(value, current_trace(), None);
    }

    /// Counts a value of another trace, by its id, where that is sampled.
    pub fn observe_of(&self, value: f64, trace_id: Option<String>) {
        self.0.observe(value, trace_id.map(|id| [("trace_id", id)]), None);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The id of the current trace, if that is sampled: of others nothing is kept anywhere.
fn current_trace() -> Option<Trace> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        (span.is_valid() && span.is_sampled()).then(|| [("trace_id", span.trace_id().to_string())])
    })
}

/// Route, method, status.
type RequestLabels = [(&'static str, Cow<'static, str>); 3];

fn request_histogram() -> HistogramWithExemplars<Trace> {
    HistogramWithExemplars::new(super::SECONDS.iter().copied())
}

/// Histograms of requests, by route, method and status. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests(Family<RequestLabels, HistogramWithExemplars<Trace>>);

impl Default for Requests {
    fn default() -> Self {
        Self(Family::new_with_constructor(request_histogram as fn() -> _))
    }
}

impl Requests {
    pub(super) fn expect(&self, route: Cow<'static, str>, method: &'static str, status: Cow<'static, str>) {
        drop(self.0.get_or_create(&Self::labels(route, method, status)));
    }

    /// Counts a request in the current trace.
    pub fn observe(&self, route: Cow<'static, str>, method: &'static str, status: Cow<'static, str>, seconds: f64) {
        self.0.get_or_create(&Self::labels(route, method, status)).observe(seconds, current_trace(), None);
    }

    fn labels(route: Cow<'static, str>, method: &'static str, status: Cow<'static, str>) -> RequestLabels {
        [("route", route), ("method", method.into()), ("status", status)]
    }
}

impl EncodeMetric for Requests {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Raises a gauge, and lowers it when it is dropped.
pub struct Held<'a> {
    gauge: &'a Gauge,
    by: i64,
}

impl<'a> Held<'a> {
    /// Raises a gauge.
    pub fn new(gauge: &'a Gauge, by: usize) -> Self {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        gauge.inc_by(by);
        Self { gauge, by }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.gauge.dec_by(self.by);
    }
}
