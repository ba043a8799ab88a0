//! Features to confidence: boosted trees choose a sentence, others say whether to trust the choice, and a curve makes of
//! that a share of right answers. All of it is one table, which `fit.py` fitted and wrote.

use std::sync::LazyLock;

use super::expected::{TermFeatures, WAYS};
use super::features::Features;

/// The table, in lines: `terms` and `features` (their names), `right` and `wrong` (the way in which a term is held, then a
/// tree of [`held`]), `rank` and `confidence` (trees in preorder; `3<0.5` goes left where feature 3 is at most 0.5; a number
/// alone is a leaf, of which a tree has 32 at most), `curve` (sum:confidence, between which lines are drawn), `threshold` (the confidence to
/// answer at), `precision` (that share of answers is right when answering at this confidence).
static TABLE: &str = include_str!("model.txt");

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(TABLE).expect("fit.py writes a whole table"));

/// A branch of a tree: which of the values, a bound, and the leaves that stay within reach when the value is above it.
#[derive(Debug, Clone, Copy)]
struct Branch {
    bound: f32,
    value: u32,
    above: Leaves,
}

/// A set of a tree's leaves; the lowest bit is the leftmost leaf.
type Leaves = u32;

/// Trees whose leaves add up, laid out as QuickScorer does (Lucchese et al. 2015): where a value is above a branch's
/// bound, the leaves on its left are out of reach, and the leftmost leaf that stays is the tree's. So all branches are
/// gone through in a line and no jump has to be guessed, several candidates at once.
#[derive(Debug, Default)]
struct Forest {
    branches: Vec<Branch>,
    leaves: Vec<f32>,
    /// Where each tree's branches and leaves end.
    ends: Vec<(usize, usize)>,
}

/// Candidates that go through a forest together.
const ABREAST: usize = 8;

#[derive(Debug, Default)]
struct Model {
    right: [Forest; WAYS],
    wrong: [Forest; WAYS],
    rank: Forest,
    confidence: Forest,
    curve: Vec<(f32, f32)>,
    threshold: f64,
    precisions: Vec<(f64, f64)>,
}

/// How a chosen sentence stands out among the candidates: what trust rests on, beside its features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// Its rank sum.
    pub(super) sum: f32,
    /// How far it is above the best other sentence of its passage.
    pub(super) over_own: f32,
    /// How far it is above the best sentence of another passage.
    pub(super) over_other: f32,
    /// How far the mean of the five best is above it.
    pub(super) over_mean: f32,
    /// The best sum of another passage.
    pub(super) other: f32,
    /// The logarithm of all the sums' exponentials, by its own: how many come near it.
    pub(super) crowd: f32,
}

/// In place of a sum that is not there, below all that are.
const NONE: f32 = -9.0;

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
            over_own: own.map_or(-NONE, |own| sum - own),
            over_other: other.map_or(-NONE, |other| sum - other),
            over_mean: sums.iter().sum::<f32>() / sums.len() as f32 - sum,
            other: other.unwrap_or(NONE),
            crowd: candidates.iter().map(|(_, other)| (other - sum).exp()).sum::<f32>().ln(),
        }
    }

    const LEN: usize = 6;

    fn values(self) -> [f32; Self::LEN] {
        [self.sum, self.over_own, self.over_other, self.over_mean, self.other, self.crowd]
    }
}

/// The confidence below which MultiVAC abstains, unless it is configured otherwise.
#[must_use]
pub fn fitted_threshold() -> f64 {
    MODEL.threshold
}

/// The confidence at which this share of the answers is right, as far as the table goes: what was measured where the
/// model was fitted, so no promise for other data. `None` where no threshold gave as much.
#[must_use]
pub fn threshold_for(precision: f64) -> Option<f64> {
    MODEL.precisions.iter().find(|(reached, _)| *reached >= precision).map(|(_, threshold)| *threshold)
}

/// How likely the right sentence holds each term, and how likely a wrong one does, in each of the ways.
pub(super) fn held(terms: &[TermFeatures]) -> Vec<[(f32, f32); WAYS]> {
    let rows: Vec<_> = terms.iter().map(TermFeatures::values).collect();
    let rows: Vec<&[f32]> = rows.iter().map(<[f32; _]>::as_slice).collect();
    let chance = |sum: f32| (1.0 / (1.0 + (-sum).exp())).clamp(0.01, 0.99);
    let mut held = vec![[(0.0, 0.0); WAYS]; terms.len()];
    for (way, (right, wrong)) in MODEL.right.iter().zip(&MODEL.wrong).enumerate() {
        for (held, (right, wrong)) in held.iter_mut().zip(right.sums(&rows).into_iter().zip(wrong.sums(&rows))) {
            held[way] = (chance(right), chance(wrong));
        }
    }
    held
}

/// The rank sum of each candidate: any number, higher is better.
pub(super) fn rank<'a>(candidates: impl Iterator<Item = &'a Features>) -> Vec<f32> {
    let rows: Vec<_> = candidates.map(Features::values).collect();
    let rows: Vec<&[f32]> = rows.iter().map(<[f32; _]>::as_slice).collect();
    MODEL.rank.sums(&rows)
}

/// How likely each of some chosen sentences is to be right, from 0 to 1. All in one call: the forest takes several at once.
pub(super) fn confidences<'a>(chosen: impl Iterator<Item = (&'a Features, Choice)>) -> Vec<f64> {
    let values = |(features, choice): (&Features, Choice)| features.values().into_iter().chain(choice.values());
    let rows: Vec<Vec<f32>> = chosen.map(|chosen| values(chosen).collect()).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    MODEL.confidence.sums(&rows).into_iter().map(|sum| MODEL.calibrated(sum)).collect()
}

impl Forest {
    /// The sum over all trees for each row of values.
    fn sums(&self, rows: &[&[f32]]) -> Vec<f32> {
        let mut sums = Vec::with_capacity(rows.len());
        let mut values: Vec<[f32; ABREAST]> = Vec::new();
        for rows in rows.chunks(ABREAST) {
            values.clear();
            values.resize(rows[0].len(), [0.0; ABREAST]);
            for (i, row) in rows.iter().enumerate() {
                values.iter_mut().zip(*row).for_each(|(values, value)| values[i] = *value);
            }
            let mut sum = [0.0; ABREAST];
            let (mut branch, mut leaf) = (0, 0);
            for &(branches, leaves) in &self.ends {
                let mut reach = [Leaves::MAX; ABREAST];
                for Branch { bound, value, above } in &self.branches[branch..branches] {
                    let values = values[*value as usize];
                    for (reach, value) in reach.iter_mut().zip(values) {
                        // The difference's sign, on all bits: a comparison that is done for all eight at once.
                        let at_most = !((bound - value).to_bits().cast_signed() >> 31).cast_unsigned();
                        *reach &= above | at_most;
                    }
                }
                let tree = &self.leaves[leaf..leaves];
                for (sum, reach) in sum.iter_mut().zip(reach) {
                    *sum += tree[reach.trailing_zeros() as usize];
                }
                (branch, leaf) = (branches, leaves);
            }
            sums.extend_from_slice(&sum[..rows.len()]);
        }
        sums
    }

    /// Reads one tree of a forest over so many values.
    fn read(&mut self, line: &str, values: usize) -> Option<()> {
        let first = self.leaves.len();
        let mut tokens = line.split(' ');
        self.read_node(&mut tokens, values, first)?;
        self.ends.push((self.branches.len(), self.leaves.len()));
        tokens.next().is_none().then_some(())
    }

    /// Reads a node and all below it, of the tree whose first leaf is `first`.
    fn read_node<'a>(&mut self, tokens: &mut impl Iterator<Item = &'a str>, values: usize, first: usize) -> Option<()> {
        let token = tokens.next()?;
        let Some((value, bound)) = token.split_once('<') else {
            self.leaves.push(token.parse().ok()?);
            return (self.leaves.len() - first <= Leaves::BITS as usize).then_some(());
        };
        let (value, bound) = (value.parse().ok()?, bound.parse().ok()?);
        if value as usize >= values {
            return None;
        }
        let at = self.branches.len();
        let left = self.leaves.len() - first;
        self.branches.push(Branch { bound, value, above: Leaves::MAX });
        self.read_node(tokens, values, first)?;
        for leaf in left..self.leaves.len() - first {
            self.branches[at].above &= !(1 << leaf);
        }
        self.read_node(tokens, values, first)
    }
}

impl Model {
    fn calibrated(&self, sum: f32) -> f64 {
        let after = self.curve.partition_point(|(x, _)| *x <= sum);
        let (Some(&(x1, y1)), Some(&(x2, y2))) = (self.curve.get(after.wrapping_sub(1)), self.curve.get(after)) else {
            // Beyond the curve's ends.
            return self.curve.get(after.min(self.curve.len() - 1)).map_or(0.0, |(_, y)| f64::from(*y));
        };
        f64::from(y1 + (y2 - y1) * (sum - x1) / (x2 - x1))
    }

    /// Reads the table; `None` where it is not one.
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
                    forests.get_mut(way.parse::<usize>().ok()?)?.read(tree, TermFeatures::NAMES.len())?;
                }
                "rank" => model.rank.read(rest, Features::NAMES.len())?,
                "confidence" => model.confidence.read(rest, Features::NAMES.len() + Choice::LEN)?,
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
        let whole = ![model.rank.ends.len(), model.confidence.ends.len(), model.curve.len()].contains(&0);
        whole.then_some(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_and_a_curve_followed() {
        let model =
            Model::read("rank 0<0.5 1<2 1 2 3\nrank 0.25\nconfidence 1\ncurve 0:0.1 2:0.5 4:0.9").expect("a table");
        let sum = |a, b| {
            let mut values = Features::default().values();
            (values[0], values[1]) = (a, b);
            let rows: [&[f32]; 9] = [&values; 9];
            let sums = model.rank.sums(&rows);
            assert!(sums.len() == 9 && sums.iter().all(|sum| *sum == sums[0]));
            sums[0]
        };
        assert_eq!([sum(0.5, 2.0), sum(0.0, 2.5), sum(0.6, 0.0)], [1.25, 2.25, 3.25]);
        for (sum, confidence) in [(-9.0, 0.1), (0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (3.0, 0.7), (99.0, 0.9)] {
            assert!((model.calibrated(sum) - confidence).abs() < 1e-6, "{sum}");
        }
    }

    #[test]
    fn half_a_table_is_none() {
        for table in
            ["", "rank 0<0.5 1\nconfidence 1\ncurve 0:0", "rank 1 2\nconfidence 1\ncurve 0:0", "rank 1\ncurve 0:0"]
        {
            assert!(Model::read(table).is_none(), "{table}");
        }
        let wide = format!("rank {}0\nconfidence 1\ncurve 0:0", "0<1 1 ".repeat(32));
        assert!(Model::read(&wide).is_none(), "33 leaves");
        assert!(Model::read("rank 999<1 1 1\nconfidence 1\ncurve 0:0").is_none());
    }

    #[test]
    fn a_choice_is_known_by_how_it_stands_out() {
        let choice = Choice::new(1, &[(0, 1.0), (1, 3.0), (1, 2.5)]);
        assert_eq!((choice.sum, choice.over_own, choice.over_other, choice.other), (3.0, 0.5, 2.0, 1.0));
        let alone = Choice::new(0, &[(0, 1.0)]);
        assert_eq!((alone.over_own, alone.over_other, alone.over_mean, alone.crowd), (9.0, 9.0, 0.0, 0.0));
    }

    #[test]
    fn the_fitted_table_is_whole_and_its_curve_never_falls() {
        assert!(MODEL.curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        assert!(MODEL.precisions.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        assert!((0.05..0.95).contains(&fitted_threshold()));
    }

    #[test]
    fn who_wants_more_to_be_right_gets_fewer_answers() {
        let (some, most) = (threshold_for(0.7).expect("reached"), threshold_for(0.9).expect("reached"));
        assert!(some < most);
        assert_eq!(threshold_for(1.1), None);
    }
}
