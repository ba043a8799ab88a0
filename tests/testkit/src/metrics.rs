//! Reads what `/metrics` serves, strictly, and what docs/metrics.md says of it.

use std::collections::{BTreeMap, BTreeSet};

/// What was served at once.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The type of each metric, by its name.
    pub types: BTreeMap<String, String>,
    /// The value of each series, by its name and labels as they were served.
    pub values: BTreeMap<String, f64>,
    /// The exemplars, as they were served.
    pub exemplars: Vec<String>,
}

impl Scrape {
    /// Reads Prometheus' text format, or OpenMetrics if that is what it is.
    ///
    /// # Panics
    /// When a line is neither, when a series comes twice, has no type before it, or has no number.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (mut scrape, is_openmetrics) = (Self::default(), text.ends_with("# EOF\n"));
        let mut described = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                let suffix = match kind {
                    "counter" if is_openmetrics => "_total",
                    "info" => "_info",
                    _ => "",
                };
                let before = scrape.types.insert(format!("{name}{suffix}"), kind.to_owned());
                assert!(before.is_none(), "{name} comes twice");
                assert!(described.contains(name), "{name} has no help before its type");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(help.len() > 5 && help.ends_with('.'), "{line}");
                described.insert(name.to_owned());
            } else if line != "# EOF" {
                scrape.sample(line, is_openmetrics);
            }
        }
        scrape
    }

    fn sample(&mut self, line: &str, is_openmetrics: bool) {
        let (sample, exemplar) = line.split_once(" # ").map_or((line, None), |(sample, rest)| (sample, Some(rest)));
        if let Some(exemplar) = exemplar {
            assert!(is_openmetrics, "an exemplar in {line}");
            self.exemplars.push(exemplar.to_owned());
        }
        let (series, value) = sample.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(!value.is_nan(), "{line}");
        let name = series.split('{').next().unwrap_or_default();
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_typed = self.types.contains_key(name)
            || histogram.is_some_and(|name| self.types.get(name).is_some_and(|kind| kind == "histogram"));
        assert!(is_typed, "no type: {line}");
        assert!(self.values.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }

    /// The value of a series; `None` where it is absent.
    #[must_use]
    pub fn get(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }

    /// The labels of a metric, beside those of buckets.
    #[must_use]
    pub fn labels(&self, metric: &str) -> BTreeSet<String> {
        let of = |series: &&String| {
            let name = series.split('{').next().unwrap_or_default();
            name == metric || ["_bucket", "_sum", "_count"].iter().any(|suffix| name == format!("{metric}{suffix}"))
        };
        let series = self.values.keys().filter(of).filter_map(|series| series.split_once('{'));
        let labels = series.flat_map(|(_, labels)| labels.split("\",").filter_map(|label| label.split_once('=')));
        labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le").collect()
    }
}

/// A row of docs/metrics.md.
#[derive(Debug)]
pub struct Documented {
    /// Its type.
    pub kind: String,
    /// `both`, `api`, `consumer` or `edge`.
    pub place: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
}

/// All rows of docs/metrics.md, by the metric's name.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn documented() -> BTreeMap<String, Documented> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md can be read");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, place, labels, is, ..] = cells[..] else { panic!("{line}") };
        assert!(!is.is_empty(), "{line}");
        // `disk`: `store`, `index`; or only names.
        let named = labels.split(':').next().unwrap_or_default();
        let labels = named.split(',').map(|label| label.trim().trim_matches('`').to_owned()).filter(|l| !l.is_empty());
        let row = Documented { kind: kind.to_owned(), place: place.to_owned(), labels: labels.collect() };
        (name.trim_matches('`').to_owned(), row)
    });
    rows.collect()
}

/// What differs between the page and a scrape, of the places that are named; `absent` may be missing in the scrape, since
/// they are not known there.
#[must_use]
pub fn differences(scrape: &Scrape, places: &[&str], absent: &[&str]) -> Vec<String> {
    let rows = documented();
    let mut found = Vec::new();
    for (name, row) in rows.iter().filter(|(_, row)| places.contains(&row.place.as_str())) {
        match scrape.types.get(name) {
            None if absent.contains(&name.as_str()) => {}
            None => found.push(format!("{name} is on the page and not served")),
            Some(kind) if *kind != row.kind => {
                found.push(format!("{name} is a {kind}, and a {} on the page", row.kind))
            }
            Some(_) if scrape.labels(name) != row.labels => {
                found.push(format!(
                    "{name} has the labels {:?}, and {:?} on the page",
                    scrape.labels(name),
                    row.labels
                ));
            }
            Some(_) => {}
        }
    }
    let is_known = |name: &&String| rows.get(*name).is_some_and(|row| places.contains(&row.place.as_str()));
    found.extend(scrape.types.keys().filter(|name| !is_known(name)).map(|name| format!("{name} is not on the page")));
    found
}
