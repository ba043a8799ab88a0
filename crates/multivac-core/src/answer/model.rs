//! Features to confidence: boosted trees rank the sentences, others estimate whether the best one is right, and a curve
//! calibrates that estimate to a share of right answers. All of it is one table, `model.txt`, which `fit.py` fitted and wrote.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::forest::Forest;
use super::table::{Features, TermFeatures, WAYS_TO_HOLD};

/// The table, in lines:
///
/// - `terms` and `features`: their names, as in `table.rs`;
/// - `right` and `wrong`: a way of holding a term, then a tree; see [`hold_probabilities`];
/// - `rank` and `confidence`: a tree; see [`Forest::add_tree`] for how it is written;
/// - `curve`: pairs `sum:confidence`, in between which is interpolated;
/// - `threshold`: the confidence from which on MultiVAC answers;
/// - `precision`: pairs `precision:threshold`: that share of the answers is right when answering from that confidence on.
static TABLE: &str = include_str!("model.txt");

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(TABLE).expect("fit.py writes a complete table"));

#[derive(Debug, Default)]
struct Model {
    right: [Forest; WAYS_TO_HOLD],
    wrong: [Forest; WAYS_TO_HOLD],
    rank: Forest,
    confidence: Forest,
    curve: Vec<(f32, f32)>,
    threshold: f64,
    precisions: Vec<(f64, f64)>,
}

/// How a chosen sentence compares with the other candidates: what confidence is estimated from, beside its features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// Its rank sum.
    sum: f32,
    /// How far it is above the best other sentence of its passage.
    over_own: f32,
    /// How far it is above the best sentence of another passage.
    over_other: f32,
    /// How far the mean of the five best is above it.
    over_mean: f32,
    /// The best sum of another passage.
    other: f32,
    /// The logarithm of the sum of all sums' exponentials, each relative to its own: how many come near it.
    crowd: f32,
}

/// Stands for a rank sum that does not exist, below all that do.
const NO_SUM: f32 = -9.0;

impl Choice {
    /// Of the candidate at `chosen`, among candidates given as (passage, rank sum).
    pub(super) fn new(chosen: usize, candidates: &[(usize, f32)]) -> Self {
        let (passage, sum) = candidates[chosen];
        let best = |which: &dyn Fn(usize, usize) -> bool| {
            let sums = candidates.iter().enumerate().filter(|(at, (passage, _))| which(*at, *passage));
            sums.map(|(_, (_, sum))| *sum).reduce(f32::max)
        };
        let own = best(&|at, other| other == passage && at != chosen);
        let other = best(&|_, other| other != passage);
        let mut sums: Vec<f32> = candidates.iter().map(|(_, sum)| *sum).collect();
        sums.sort_by(|a, b| b.total_cmp(a));
        sums.truncate(5);
        Self {
            sum,
            over_own: own.map_or(-NO_SUM, |own| sum - own),
            over_other: other.map_or(-NO_SUM, |other| sum - other),
            over_mean: sums.iter().sum::<f32>() / sums.len() as f32 - sum,
            other: other.unwrap_or(NO_SUM),
            crowd: candidates.iter().map(|(_, other)| (other - sum).exp()).sum::<f32>().ln(),
        }
    }

    const LEN: usize = 6;

    fn values(self) -> [f32; Self::LEN] {
        [self.sum, self.over_own, self.over_other, self.over_mean, self.other, self.crowd]
    }
}

/// Names the model: what is calibrated for one says nothing of another.
pub(super) fn fingerprint() -> &'static str {
    static FINGERPRINT: LazyLock<String> =
        LazyLock::new(|| Sha256::digest(TABLE).iter().take(8).map(|byte| format!("{byte:02x}")).collect());
    &FINGERPRINT
}

/// The confidence below which MultiVAC abstains, unless it is configured otherwise.
#[must_use]
pub fn fitted_threshold() -> f64 {
    MODEL.threshold
}

/// The confidence from which on this share of the answers is right, as measured where the model was fitted: no promise for
/// other data. `None` where no threshold reached that share.
#[must_use]
pub fn threshold_for(precision: f64) -> Option<f64> {
    MODEL.precisions.iter().find(|(reached, _)| *reached >= precision).map(|(_, threshold)| *threshold)
}

/// For each term and each way of holding one: the probability that the right sentence holds it, and that a wrong one does.
pub(super) fn hold_probabilities(terms: &[TermFeatures]) -> Vec<[(f32, f32); WAYS_TO_HOLD]> {
    let rows: Vec<_> = terms.iter().map(TermFeatures::values).collect();
    let rows: Vec<&[f32]> = rows.iter().map(<[f32; _]>::as_slice).collect();
    let probability = |sum: f32| (1.0 / (1.0 + (-sum).exp())).clamp(0.01, 0.99);
    let mut probabilities = vec![[(0.0, 0.0); WAYS_TO_HOLD]; terms.len()];
    for (way, (right, wrong)) in MODEL.right.iter().zip(&MODEL.wrong).enumerate() {
        for (of_term, (right, wrong)) in
            probabilities.iter_mut().zip(right.sums(&rows).into_iter().zip(wrong.sums(&rows)))
        {
            of_term[way] = (probability(right), probability(wrong));
        }
    }
    probabilities
}

/// The rank sum of each candidate: any number, higher is better.
pub(super) fn rank_sums<'a>(candidates: impl Iterator<Item = &'a Features>) -> Vec<f32> {
    let rows: Vec<_> = candidates.map(Features::values).collect();
    let rows: Vec<&[f32]> = rows.iter().map(<[f32; _]>::as_slice).collect();
    MODEL.rank.sums(&rows)
}

/// The probability, from 0 to 1, that each of some chosen sentences is right. One call for all of them is cheaper than one
/// each, since the forest takes several rows at once.
pub(super) fn confidences<'a>(chosen: impl Iterator<Item = (&'a Features, Choice)>) -> Vec<f64> {
    let values = |(features, choice): (&Features, Choice)| features.values().into_iter().chain(choice.values());
    let rows: Vec<Vec<f32>> = chosen.map(|chosen| values(chosen).collect()).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    MODEL.confidence.sums(&rows).into_iter().map(|sum| MODEL.calibrated(sum)).collect()
}

impl Model {
    /// The curve's value at a sum; beyond its ends, the value of the nearer end.
    fn calibrated(&self, sum: f32) -> f64 {
        let after = self.curve.partition_point(|(x, _)| *x <= sum);
        let (Some(&(x1, y1)), Some(&(x2, y2))) = (self.curve.get(after.wrapping_sub(1)), self.curve.get(after)) else {
            return self.curve.get(after.min(self.curve.len() - 1)).map_or(0.0, |(_, y)| f64::from(*y));
        };
        f64::from(y1 + (y2 - y1) * (sum - x1) / (x2 - x1))
    }

    /// Reads the table; `None` where it is incomplete or malformed.
    fn read(table: &str) -> Option<Self> {
        let mut model = Self::default();
        for line in table.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            let pairs = || rest.split(' ').map(|pair| pair.split_once(':'));
            match kind {
                "features" if rest.split(' ').ne(Features::NAMES.iter().copied()) => return None,
                "terms" if rest.split(' ').ne(TermFeatures::NAMES.iter().copied()) => return None,
                "right" | "wrong" => {
                    let (way, tree) = rest.split_once(' ')?;
                    let forests = if kind == "right" { &mut model.right } else { &mut model.wrong };
                    forests.get_mut(way.parse::<usize>().ok()?)?.add_tree(tree, TermFeatures::NAMES.len())?;
                }
                "rank" => model.rank.add_tree(rest, Features::NAMES.len())?,
                "confidence" => model.confidence.add_tree(rest, Features::NAMES.len() + Choice::LEN)?,
                "curve" => {
                    for pair in pairs() {
                        let (x, y) = pair?;
                        model.curve.push((x.parse().ok()?, y.parse().ok()?));
                    }
                }
                "threshold" => model.threshold = rest.parse().ok()?,
                "precision" => {
                    for pair in pairs() {
                        let (precision, threshold) = pair?;
                        model.precisions.push((precision.parse().ok()?, threshold.parse().ok()?));
                    }
                }
                _ => {}
            }
        }
        let complete = !model.rank.is_empty() && !model.confidence.is_empty() && !model.curve.is_empty();
        complete.then_some(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_its_curve_interpolated() {
        let model =
            Model::read("rank 0<0.5 1<2 1 2 3\nrank 0.25\nconfidence 1\ncurve 0:0.1 2:0.5 4:0.9").expect("a table");
        assert_eq!(model.rank.sums(&[&Features::default().values()]), [1.25]);
        for (sum, confidence) in [(-9.0, 0.1), (0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (3.0, 0.7), (99.0, 0.9)] {
            assert!((model.calibrated(sum) - confidence).abs() < 1e-6, "{sum}");
        }
    }

    #[test]
    fn an_incomplete_or_malformed_table_is_refused() {
        for table in [
            "",
            "rank 0<0.5 1\nconfidence 1\ncurve 0:0",
            "rank 1 2\nconfidence 1\ncurve 0:0",
            "rank 1\ncurve 0:0",
            "rank 999<1 1 1\nconfidence 1\ncurve 0:0",
        ] {
            assert!(Model::read(table).is_none(), "{table}");
        }
        let wide = format!("rank {}0\nconfidence 1\ncurve 0:0", "0<1 1 ".repeat(32));
        assert!(Model::read(&wide).is_none(), "33 leaves");
    }

    #[test]
    fn a_choice_is_described_by_how_it_compares_with_the_others() {
        let choice = Choice::new(1, &[(0, 1.0), (1, 3.0), (1, 2.5)]);
        assert_eq!((choice.sum, choice.over_own, choice.over_other, choice.other), (3.0, 0.5, 2.0, 1.0));
        let alone = Choice::new(0, &[(0, 1.0)]);
        assert_eq!((alone.over_own, alone.over_other, alone.over_mean, alone.crowd), (9.0, 9.0, 0.0, 0.0));
    }

    #[test]
    fn the_fitted_table_is_complete_and_its_curve_never_falls() {
        assert!(MODEL.curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        assert!(MODEL.precisions.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        assert!((0.05..0.95).contains(&fitted_threshold()));
    }

    #[test]
    fn a_higher_precision_needs_a_higher_threshold() {
        let (some, most) = (threshold_for(0.7).expect("reached"), threshold_for(0.9).expect("reached"));
        assert!(some < most);
        assert_eq!(threshold_for(1.1), None);
    }
}
