//! Words of like meaning: a vector for each word, put together from those of its pieces. The table is made by
//! `vectors.py`, which says where it comes from; no model runs here.

use std::sync::LazyLock;

/// Dimensions of a vector.
pub(super) const DIMENSIONS: usize = 48;

/// Longer words, in bytes, are codes and the like, and mean nothing.
const LONGEST: usize = 32;

/// One long.
pub(super) type Vector = [f32; DIMENSIONS];

static FILE: &[u8] = include_bytes!("vectors.bin");

struct Table {
    /// The row of each piece that begins a word, and of each that goes on a word.
    begin: foldhash::HashMap<&'static str, usize>,
    go_on: foldhash::HashMap<&'static str, usize>,
    /// The longest piece, in bytes.
    longest: usize,
    /// Each one long.
    vectors: Vec<Vector>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let number = |at: usize| u32::from_le_bytes([FILE[at], FILE[at + 1], FILE[at + 2], FILE[at + 3]]) as usize;
    let (count, dimensions, length) = (number(0), number(4), number(8));
    assert_eq!((dimensions, FILE.len()), (DIMENSIONS, 12 + length + count * DIMENSIONS), "vectors.bin is whole");
    let pieces = std::str::from_utf8(&FILE[12..12 + length]).expect("vectors.py writes ASCII");
    let vectors = FILE[12 + length..].chunks_exact(DIMENSIONS).map(|bytes| {
        let mut vector: Vector = std::array::from_fn(|i| f32::from(i8::from_le_bytes([bytes[i]])));
        let length = norm(&vector);
        vector.iter_mut().for_each(|value| *value /= length);
        vector
    });
    let mut table = Table {
        begin: foldhash::HashMap::default(),
        go_on: foldhash::HashMap::default(),
        longest: 0,
        vectors: vectors.collect(),
    };
    for (row, piece) in pieces.split('\n').enumerate() {
        let (rows, piece) =
            piece.strip_prefix("##").map_or((&mut table.begin, piece), |piece| (&mut table.go_on, piece));
        rows.insert(piece, row);
        table.longest = table.longest.max(piece.len());
    }
    table
});

/// The vector of a word in lower case, where all of it is known: the mean of its pieces' vectors, cut off as WordPiece
/// does (Wu et al., 2016), the longest first. With it how rare the word is, as the logarithm of its rarest piece's rank:
/// the table goes from frequent to rare.
pub(super) fn vector(word: &str) -> Option<(Vector, f32)> {
    if word.is_empty() || word.len() > LONGEST || !word.is_ascii() {
        return None;
    }
    let mut sum = [0.0; DIMENSIONS];
    let (mut start, mut rank) = (0, 0);
    while start < word.len() {
        let rows = if start == 0 { &TABLE.begin } else { &TABLE.go_on };
        let mut ends = (start + 1..=word.len().min(start + TABLE.longest)).rev();
        let (end, row) = ends.find_map(|end| rows.get(&word[start..end]).map(|row| (end, *row)))?;
        for (sum, value) in sum.iter_mut().zip(&TABLE.vectors[row]) {
            *sum += value;
        }
        start = end;
        rank = rank.max(row);
    }
    unit(sum).map(|vector| (vector, (2.0 + rank as f32).ln()))
}

/// A vector made one long; nothing of a vector that is nothing.
pub(super) fn unit(mut vector: Vector) -> Option<Vector> {
    let length = norm(&vector);
    if length < 1e-6 {
        return None;
    }
    vector.iter_mut().for_each(|value| *value /= length);
    Some(vector)
}

/// From -1 to 1: how near two vectors are.
pub(super) fn cosine(a: &Vector, b: &Vector) -> f32 {
    // Eight sums side by side, which the processor adds at once.
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &str, b: &str) -> f32 {
        cosine(&vector(a).expect("a known word").0, &vector(b).expect("a known word").0)
    }

    #[test]
    fn words_of_like_meaning_are_nearer_than_others() {
        assert!(near("king", "monarch") > near("king", "bicycle") + 0.2);
        assert!(near("reversed", "backwards") > near("reversed", "potato") + 0.2);
    }

    #[test]
    fn a_word_of_several_pieces_has_a_vector_and_an_unknown_script_none() {
        assert!(vector("multivac").is_some());
        for none in ["", "宇宙", "a-b", &"x".repeat(33)] {
            assert!(vector(none).is_none(), "{none}");
        }
    }
}
