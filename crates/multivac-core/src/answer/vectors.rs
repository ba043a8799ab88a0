//! Words of like meaning: a vector for each word, the sum of those of its pieces. The table is made by `vectors.py`, which
//! says where it comes from; no model runs here.

use std::sync::LazyLock;

/// Dimensions of a vector.
pub(super) const DIMENSIONS: usize = 128;

/// Longer words, in bytes, are codes and the like, and have no meaning.
const MAX_WORD_BYTES: usize = 32;

/// A word's vector, in 8 bits a dimension: the cosine of two comes within 0.01 of the exact one, and many words are kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vector {
    /// The largest is 127 or -127.
    values: [i8; DIMENSIONS],
    /// What the values are multiplied by to make the length 1.
    scale: f32,
}

/// A sum of vectors.
pub(super) type Sum = [f32; DIMENSIONS];

static FILE: &[u8] = include_bytes!("vectors.bin");

struct Table {
    /// The row of each piece that begins a word, and of each that continues one.
    initial: foldhash::HashMap<&'static str, usize>,
    continuing: foldhash::HashMap<&'static str, usize>,
    /// The length of the longest piece, in bytes.
    longest_piece: usize,
    /// The vectors, one after the other.
    vectors: &'static [u8],
}

impl Table {
    fn vector(&self, row: usize) -> Vector {
        let bytes = &self.vectors[row * DIMENSIONS..][..DIMENSIONS];
        Vector::new(std::array::from_fn(|i| i8::from_le_bytes([bytes[i]])))
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let number = |at: usize| u32::from_le_bytes([FILE[at], FILE[at + 1], FILE[at + 2], FILE[at + 3]]) as usize;
    let (count, dimensions, length) = (number(0), number(4), number(8));
    assert_eq!((dimensions, FILE.len()), (DIMENSIONS, 12 + length + count * DIMENSIONS), "vectors.bin is whole");
    let pieces = std::str::from_utf8(&FILE[12..12 + length]).expect("vectors.py writes ASCII");
    let mut table = Table {
        initial: foldhash::HashMap::default(),
        continuing: foldhash::HashMap::default(),
        longest_piece: 0,
        vectors: &FILE[12 + length..],
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
        let vector = TABLE.vector(row);
        if start == 0 && end == word.len() {
            return Some((vector, rarity(row)));
        }
        vector.add_to(&mut sum, 1.0);
        start = end;
        rank = rank.max(row);
    }
    let largest = sum.iter().fold(f32::MIN_POSITIVE, |largest, value| value.abs().max(largest));
    Some((Vector::new(sum.map(|value| (value / largest * 127.0).round() as i8)), rarity(rank)))
}

fn rarity(rank: usize) -> f32 {
    (2.0 + rank as f32).ln()
}

impl Vector {
    fn new(values: [i8; DIMENSIONS]) -> Self {
        let length = (dot(&values, &values) as f32).sqrt();
        Self { values, scale: 1.0 / length.max(1.0) }
    }

    /// The cosine of two vectors, from -1 to 1.
    pub(super) fn cosine(&self, other: &Self) -> f32 {
        dot(&self.values, &other.values) as f32 * (self.scale * other.scale)
    }

    /// Adds the vector, at length 1, to a sum, so often.
    pub(super) fn add_to(&self, sum: &mut Sum, weight: f32) {
        let weight = weight * self.scale;
        sum.iter_mut().zip(self.values).for_each(|(sum, value)| *sum += f32::from(value) * weight);
    }
}

fn dot(a: &[i8; DIMENSIONS], b: &[i8; DIMENSIONS]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// The cosine of two sums, from -1 to 1; 0 where one of them is of length 0.
pub(super) fn cosine(a: &Sum, b: &Sum) -> f32 {
    // Eight sums side by side, so that the compiler can vectorise the additions.
    let (mut both, mut of_a, mut of_b) = ([0.0; 8], [0.0; 8], [0.0; 8]);
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            both[i] += a * b;
            of_a[i] += a * a;
            of_b[i] += b * b;
        }
    }
    let total = |sums: [f32; 8]| sums.iter().sum::<f32>();
    let lengths = (total(of_a) * total(of_b)).sqrt();
    if lengths < 1e-9 { 0.0 } else { total(both) / lengths }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &str, b: &str) -> f32 {
        vector(a).expect("a known word").0.cosine(&vector(b).expect("a known word").0)
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
