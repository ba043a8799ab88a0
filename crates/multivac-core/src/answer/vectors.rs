//! Words of like meaning: a vector for each word, the sum of those of its pieces. The table is made by `vectors.py`, which
//! says where it comes from; no model runs here.

use std::sync::LazyLock;

/// Dimensions of a vector.
pub(super) const DIMENSIONS: usize = 48;

/// Longer words, in bytes, are codes and the like, and have no meaning.
const MAX_WORD_BYTES: usize = 32;

/// A vector of length 1.
pub(super) type Vector = [f32; DIMENSIONS];

static FILE: &[u8] = include_bytes!("vectors.bin");

struct Table {
    /// The row of each piece that begins a word, and of each that continues one.
    initial: foldhash::HashMap<&'static str, usize>,
    continuing: foldhash::HashMap<&'static str, usize>,
    /// The length of the longest piece, in bytes.
    longest_piece: usize,
    /// Each of length 1.
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
        initial: foldhash::HashMap::default(),
        continuing: foldhash::HashMap::default(),
        longest_piece: 0,
        vectors: vectors.collect(),
    };
    for (row, piece) in pieces.split('\n').enumerate() {
        let (rows, piece) =
            piece.strip_prefix("##").map_or((&mut table.initial, piece), |piece| (&mut table.continuing, piece));
        rows.insert(piece, row);
        table.longest_piece = table.longest_piece.max(piece.len());
    }
    table
});

/// The vector of a word in lower case, if all its pieces are known: the mean of their vectors. Pieces are split off as in
/// WordPiece (Wu et al., 2016), the longest first. With it comes the word's rarity, the logarithm of its rarest piece's rank:
/// the table is sorted from frequent to rare.
pub(super) fn vector(word: &str) -> Option<(Vector, f32)> {
    if word.is_empty() || word.len() > MAX_WORD_BYTES || !word.is_ascii() {
        return None;
    }
    let mut sum = [0.0; DIMENSIONS];
    let (mut start, mut rank) = (0, 0);
    while start < word.len() {
        let rows = if start == 0 { &TABLE.initial } else { &TABLE.continuing };
        let mut ends = (start + 1..=word.len().min(start + TABLE.longest_piece)).rev();
        let (end, row) = ends.find_map(|end| rows.get(&word[start..end]).map(|row| (end, *row)))?;
        for (sum, value) in sum.iter_mut().zip(&TABLE.vectors[row]) {
            *sum += value;
        }
        start = end;
        rank = rank.max(row);
    }
    unit(sum).map(|vector| (vector, (2.0 + rank as f32).ln()))
}

/// A vector scaled to length 1; `None` for a vector of length 0.
pub(super) fn unit(mut vector: Vector) -> Option<Vector> {
    let length = norm(&vector);
    if length < 1e-6 {
        return None;
    }
    vector.iter_mut().for_each(|value| *value /= length);
    Some(vector)
}

/// The cosine of two vectors of length 1, from -1 to 1.
pub(super) fn cosine(a: &Vector, b: &Vector) -> f32 {
    // Eight sums side by side, so that the compiler can vectorise the additions.
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
