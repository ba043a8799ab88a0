//! Features to confidence: boosted trees, whose one table `fit.py` fitted and wrote, and a curve that makes of their
//! sum a share of right answers.

use std::sync::LazyLock;

use super::features::Features;

/// The table, in lines: `features` (their names), `tree` (in preorder; `3<0.5` goes left where feature 3 is at most 0.5;
/// a number alone is a leaf), `curve` (sum:confidence, between which lines are drawn), `threshold` (the confidence to
/// answer at), `precision` (that share of answers is right when answering at this confidence).
static TABLE: &str = include_str!("model.txt");

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(TABLE).expect("fit.py writes a whole table"));

/// A node: a feature and a bound, or a leaf.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// At most the bound: the next node; above it: the one at `right`.
    Split { feature: u16, bound: f32, right: u32 },
    Leaf(f32),
}

#[derive(Debug, Default)]
struct Model {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    curve: Vec<(f32, f32)>,
    threshold: f64,
    precisions: Vec<(f64, f64)>,
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

/// The trees' sum for a candidate: any number, higher is better.
pub(super) fn sum(features: &Features) -> f32 {
    MODEL.sum(&features.values())
}

/// How likely a candidate with this sum is to be right, from 0 to 1.
pub(super) fn confidence(sum: f32) -> f64 {
    MODEL.confidence(sum)
}

impl Model {
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
                "tree" => {
                    model.roots.push(u32::try_from(model.nodes.len()).ok()?);
                    let mut tokens = rest.split(' ');
                    model.read_node(&mut tokens)?;
                    if tokens.next().is_some() {
                        return None;
                    }
                }
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
        (!model.roots.is_empty() && !model.curve.is_empty()).then_some(model)
    }

    fn read_node<'a>(&mut self, tokens: &mut impl Iterator<Item = &'a str>) -> Option<()> {
        let token = tokens.next()?;
        let Some((feature, bound)) = token.split_once('<') else {
            self.nodes.push(Node::Leaf(token.parse().ok()?));
            return Some(());
        };
        let (feature, bound) = (feature.parse().ok()?, bound.parse().ok()?);
        if usize::from(feature) >= Features::NAMES.len() {
            return None;
        }
        let at = self.nodes.len();
        self.nodes.push(Node::Split { feature, bound, right: 0 });
        self.read_node(tokens)?;
        let right = u32::try_from(self.nodes.len()).ok()?;
        self.nodes[at] = Node::Split { feature, bound, right };
        self.read_node(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_and_a_curve_followed() {
        let table = "tree 0<0.5 1<2 1 2 3\ntree 0.25\ncurve 0:0.1 2:0.5 4:0.9";
        let model = Model::read(table).expect("a table");
        let values = |a, b| {
            let mut values = Features::default().values();
            (values[0], values[1]) = (a, b);
            values
        };
        assert_eq!([model.sum(&values(0.5, 2.0)), model.sum(&values(0.0, 2.5)), model.sum(&values(0.6, 0.0))], [
            1.25, 2.25, 3.25
        ]);
        for (sum, confidence) in [(-9.0, 0.1), (0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (3.5, 0.8), (99.0, 0.9)] {
            assert!((model.confidence(sum) - confidence).abs() < 1e-6, "{sum}");
        }
    }

    #[test]
    fn half_a_table_is_none() {
        for table in ["", "tree 0<0.5 1\ncurve 0:0", "tree 1 2\ncurve 0:0", "tree 999<1 1 1\ncurve 0:0", "tree 1"] {
            assert!(Model::read(table).is_none(), "{table}");
        }
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
