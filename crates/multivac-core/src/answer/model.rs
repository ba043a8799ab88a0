//! Features to confidence: boosted trees choose a sentence, others say whether to trust the choice, and a curve makes of
//! that a share of right answers. All of it is one table, which `fit.py` fitted and wrote.

use std::sync::LazyLock;

use super::features::Features;

/// The table, in lines: `features` (their names), `rank` and `trust` (trees in preorder; `3<0.5` goes left where feature 3 is at most 0.5;
/// a number alone is a leaf), `curve` (trust:confidence, between which lines are drawn), `threshold` (the confidence to
/// answer at), `precision` (that share of answers is right when answering at this confidence).
static TABLE: &str = include_str!("model.txt");

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(TABLE).expect("fit.py writes a whole table"));

/// A node: a feature and a bound, or a leaf.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// At most the bound: the next node; above it: the one at `right`.
    Split {
        feature: u16,
        bound: f32,
        right: u32,
    },
    Leaf(f32),
}

/// Trees whose leaves add up.
#[derive(Debug, Default)]
struct Forest {
    nodes: Vec<Node>,
    roots: Vec<u32>,
}

#[derive(Debug, Default)]
struct Model {
    rank: Forest,
    trust: Forest,
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

/// The rank sum of a candidate: any number, higher is better.
pub(super) fn rank(features: &Features) -> f32 {
    MODEL.rank.sum(&features.values())
}

/// How likely a chosen sentence is to be right, from 0 to 1.
pub(super) fn confidence(features: &Features, choice: Choice) -> f64 {
    let values: Vec<f32> = features.values().into_iter().chain(choice.values()).collect();
    MODEL.confidence(MODEL.trust.sum(&values))
}

impl Forest {
    fn sum(&self, values: &[f32]) -> f32 {
        let leaf = |root: &u32| {
            let mut at = *root as usize;
            loop {
                match self.nodes[at] {
                    Node::Leaf(value) => return value,
                    Node::Split { feature, bound, .. } if values[usize::from(feature)] <= bound => at += 1,
                    Node::Split { right, .. } => at = right as usize,
                }
            }
        };
        self.roots.iter().map(leaf).sum()
    }

    /// Reads one tree of a forest over so many values.
    fn read(&mut self, line: &str, values: usize) -> Option<()> {
        self.roots.push(u32::try_from(self.nodes.len()).ok()?);
        let mut tokens = line.split(' ');
        self.read_node(&mut tokens, values)?;
        tokens.next().is_none().then_some(())
    }

    fn read_node<'a>(&mut self, tokens: &mut impl Iterator<Item = &'a str>, values: usize) -> Option<()> {
        let token = tokens.next()?;
        let Some((feature, bound)) = token.split_once('<') else {
            self.nodes.push(Node::Leaf(token.parse().ok()?));
            return Some(());
        };
        let (feature, bound) = (feature.parse().ok()?, bound.parse().ok()?);
        if usize::from(feature) >= values {
            return None;
        }
        let at = self.nodes.len();
        self.nodes.push(Node::Split { feature, bound, right: 0 });
        self.read_node(tokens, values)?;
        let right = u32::try_from(self.nodes.len()).ok()?;
        self.nodes[at] = Node::Split { feature, bound, right };
        self.read_node(tokens, values)
    }
}

impl Model {
    fn confidence(&self, sum: f32) -> f64 {
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
                "rank" => model.rank.read(rest, Features::NAMES.len())?,
                "trust" => model.trust.read(rest, Features::NAMES.len() + Choice::LEN)?,
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
        let whole = ![model.rank.roots.len(), model.trust.roots.len(), model.curve.len()].contains(&0);
        whole.then_some(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_and_a_curve_followed() {
        let model = Model::read("rank 0<0.5 1<2 1 2 3\nrank 0.25\ntrust 1\ncurve 0:0.1 2:0.5 4:0.9").expect("a table");
        let sum = |a, b| {
            let mut values = Features::default().values();
            (values[0], values[1]) = (a, b);
            model.rank.sum(&values)
        };
        assert_eq!([sum(0.5, 2.0), sum(0.0, 2.5), sum(0.6, 0.0)], [1.25, 2.25, 3.25]);
        for (sum, confidence) in [(-9.0, 0.1), (0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (3.0, 0.7), (99.0, 0.9)] {
            assert!((model.confidence(sum) - confidence).abs() < 1e-6, "{sum}");
        }
    }

    #[test]
    fn half_a_table_is_none() {
        for table in ["", "rank 0<0.5 1\ntrust 1\ncurve 0:0", "rank 1 2\ntrust 1\ncurve 0:0", "rank 1\ncurve 0:0"] {
            assert!(Model::read(table).is_none(), "{table}");
        }
        assert!(Model::read("rank 999<1 1 1\ntrust 1\ncurve 0:0").is_none());
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
