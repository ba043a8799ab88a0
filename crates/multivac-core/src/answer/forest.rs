//! A forest of decision trees, read from text, whose leaves add up.

/// A branch of a tree: which of the values it looks at, a bound, and the leaves that stay reachable when the value is above
/// the bound.
#[derive(Debug, Clone, Copy)]
struct Branch {
    bound: f32,
    value: u32,
    above: Leaves,
}

/// A set of a tree's leaves; the lowest bit is the leftmost leaf.
type Leaves = u32;

/// Rows of values that go through a forest together, so that the compiler can vectorise the loops over them.
const ROWS_AT_ONCE: usize = 8;

/// Trees laid out as in QuickScorer (Lucchese et al. 2015): where a value is above a branch's bound, the leaves on the
/// branch's left are out of reach, and the leftmost leaf that stays reachable is the tree's result. All branches are visited
/// in the order of memory, so the processor has no jump to predict, and several rows are done at once.
#[derive(Debug, Default)]
pub(super) struct Forest {
    branches: Vec<Branch>,
    leaves: Vec<f32>,
    /// Where each tree's branches and leaves end.
    ends: Vec<(usize, usize)>,
}

impl Forest {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The sum over all trees for each row of values.
    pub(super) fn sums(&self, rows: &[&[f32]]) -> Vec<f32> {
        let mut sums = Vec::with_capacity(rows.len());
        let mut values: Vec<[f32; ROWS_AT_ONCE]> = Vec::new();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            values.clear();
            values.resize(rows[0].len(), [0.0; ROWS_AT_ONCE]);
            for (i, row) in rows.iter().enumerate() {
                values.iter_mut().zip(*row).for_each(|(values, value)| values[i] = *value);
            }
            let mut sum = [0.0; ROWS_AT_ONCE];
            let (mut branch, mut leaf) = (0, 0);
            for &(branches, leaves) in &self.ends {
                let mut reachable = [Leaves::MAX; ROWS_AT_ONCE];
                for Branch { bound, value, above } in &self.branches[branch..branches] {
                    let values = values[*value as usize];
                    for (reachable, value) in reachable.iter_mut().zip(values) {
                        // The sign of the difference, copied to all bits, is a comparison that the compiler vectorises.
                        let at_most = !((bound - value).to_bits().cast_signed() >> 31).cast_unsigned();
                        *reachable &= above | at_most;
                    }
                }
                let tree = &self.leaves[leaf..leaves];
                for (sum, reachable) in sum.iter_mut().zip(reachable) {
                    *sum += tree[reachable.trailing_zeros() as usize];
                }
                (branch, leaf) = (branches, leaves);
            }
            sums.extend_from_slice(&sum[..rows.len()]);
        }
        sums
    }

    /// Adds a tree over `values` values, written in preorder: `3<0.5` is a branch whose left side is taken where value 3 is
    /// at most 0.5, a number alone is a leaf. `None` where the text is no such tree, or has more leaves than [`Leaves`] bits.
    pub(super) fn add_tree(&mut self, text: &str, values: usize) -> Option<()> {
        let first_leaf = self.leaves.len();
        let mut tokens = text.split(' ');
        self.add_node(&mut tokens, values, first_leaf)?;
        self.ends.push((self.branches.len(), self.leaves.len()));
        tokens.next().is_none().then_some(())
    }

    /// Adds a node and all below it, of the tree whose first leaf is `first_leaf`.
    fn add_node<'a>(
        &mut self,
        tokens: &mut impl Iterator<Item = &'a str>,
        values: usize,
        first_leaf: usize,
    ) -> Option<()> {
        let token = tokens.next()?;
        let Some((value, bound)) = token.split_once('<') else {
            self.leaves.push(token.parse().ok()?);
            return (self.leaves.len() - first_leaf <= Leaves::BITS as usize).then_some(());
        };
        let (value, bound) = (value.parse().ok()?, bound.parse().ok()?);
        if value as usize >= values {
            return None;
        }
        let at = self.branches.len();
        let left = self.leaves.len() - first_leaf;
        self.branches.push(Branch { bound, value, above: Leaves::MAX });
        self.add_node(tokens, values, first_leaf)?;
        for leaf in left..self.leaves.len() - first_leaf {
            self.branches[at].above &= !(1 << leaf);
        }
        self.add_node(tokens, values, first_leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_goes_left_where_its_value_is_at_most_the_bound() {
        let mut forest = Forest::default();
        for tree in ["0<0.5 1<2 1 2 3", "0.25"] {
            forest.add_tree(tree, 2).expect("a tree");
        }
        let sum = |a, b| {
            let row = [a, b];
            let rows: [&[f32]; ROWS_AT_ONCE + 1] = [&row; ROWS_AT_ONCE + 1];
            let sums = forest.sums(&rows);
            assert!(sums.len() == rows.len() && sums.iter().all(|sum| *sum == sums[0]));
            sums[0]
        };
        assert_eq!([sum(0.5, 2.0), sum(0.0, 2.5), sum(0.6, 0.0)], [1.25, 2.25, 3.25]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for tree in ["", "0<0.5 1", "1 2", "2<1 1 1", "x<1 1 1", "0<x 1 1"] {
            assert!(Forest::default().add_tree(tree, 2).is_none(), "{tree}");
        }
        let leaves = |count: usize| "0<1 1 ".repeat(count - 1) + "0";
        assert!(Forest::default().add_tree(&leaves(32), 2).is_some());
        assert!(Forest::default().add_tree(&leaves(33), 2).is_none());
    }
}
