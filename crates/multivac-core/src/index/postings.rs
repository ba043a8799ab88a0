//! The lists of tantivy's segments, one for each term: which passages have it, and how often. A list is read from its beginning,
//! or single passages are looked up in it, and what the term adds to their BM25 scores comes out.
//!
//! Scores are added up as whole numbers, in which the order of addition makes no difference.

use std::sync::Arc;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::query::Bm25Weight;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, InvertedIndexReader, Searcher, SegmentReader, TERMINATED, Term};

use super::IndexError;

/// A BM25 score in parts of a [`SCALE`]th.
pub(super) type Scaled = u32;

/// With 24 terms, the highest score there can be stays below 2^31.
const SCALE: f32 = 65_536.0;

/// What one term adds to the score of a passage of a (rounded) length. It is never nothing, or a term that almost all passages
/// have would find none.
pub(super) fn scaled(weight: &Bm25Weight, length: u8, occurrences: u32) -> Scaled {
    ((weight.score(length, occurrences) * SCALE) as Scaled).max(1)
}

/// What passages are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scoring {
    /// How often they have the terms, and how short they are.
    Bm25,
    /// Which of the terms they have: each counts for what it could add to BM25 at most, whatever else a passage says.
    Coverage,
}

impl Scoring {
    /// What one term adds to the score of a passage.
    pub(super) fn score(self, weight: &Bm25Weight, length: u8, occurrences: u32) -> Scaled {
        match self {
            Self::Bm25 => scaled(weight, length, occurrences),
            Self::Coverage => scaled(weight, 0, u32::MAX),
        }
    }

    /// What all of the terms add together, at most.
    pub(super) fn all(self, terms: &[(&Indexed, Bm25Weight)]) -> Scaled {
        terms.iter().map(|(_, weight)| self.score(weight, 0, u32::MAX)).sum()
    }
}

/// The score as the number that it is.
pub(super) fn unscaled(score: Scaled) -> f32 {
    score as f32 / SCALE
}

/// A term as the index knows it.
#[derive(Debug, Clone)]
pub struct Indexed {
    /// The term.
    pub(super) term: Term,
    /// In how many passages it occurs; those that were removed a moment ago may be among them.
    pub frequency: u64,
    /// Where its passages are listed, by the number of the segment.
    lists: Vec<(usize, TermInfo)>,
}

impl Indexed {
    /// Looks a term up in each segment, once for its frequency and for all searches with it.
    pub(super) fn look_up(searcher: &Searcher, term: Term) -> Result<Self, IndexError> {
        let mut lists = Vec::new();
        for (at, segment) in searcher.segment_readers().iter().enumerate() {
            let list = segment.inverted_index(term.field())?.get_term_info(&term)?;
            lists.extend(list.map(|list| (at, list)));
        }
        let frequency = lists.iter().map(|(_, list)| u64::from(list.doc_freq)).sum();
        Ok(Self { term, frequency, lists })
    }

    /// The term as text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.term.serialized_value_bytes()).unwrap_or_default()
    }
}

/// A term that is searched for.
pub(super) struct Sought<'a> {
    pub(super) indexed: &'a Indexed,
    pub(super) weight: &'a Bm25Weight,
    scores: Scores,
}

/// What a term adds to the score of a passage.
enum Scores {
    /// By [`scaled`].
    Computed,
    /// The same, for each length in which it occurs once, twice, …; where it brings so many passages that computing this is little
    /// beside that.
    Tabulated(Box<[[Scaled; TABULATED]; 256]>),
    /// The same in all.
    Constant(Scaled),
}

/// How often a term occurs at most in a passage whose score is in a table.
const TABULATED: usize = 4;

/// From how many passages on a term has a table.
const TABULATED_FROM: u64 = 10_000;

impl<'a> Sought<'a> {
    pub(super) fn new((indexed, weight): &'a (&'a Indexed, Bm25Weight), scoring: Scoring, brings: bool) -> Self {
        let scores = match scoring {
            Scoring::Coverage => Scores::Constant(scoring.score(weight, 0, 1)),
            Scoring::Bm25 if brings && indexed.frequency >= TABULATED_FROM => {
                let of = |length| std::array::from_fn(|times| scaled(weight, length as u8, times as u32 + 1));
                Scores::Tabulated(Box::new(std::array::from_fn(of)))
            }
            Scoring::Bm25 => Scores::Computed,
        };
        Self { indexed, weight, scores }
    }

    /// What it adds to the score of a passage.
    fn score(&self, length: u8, occurrences: u32) -> Scaled {
        let tabulated = match &self.scores {
            Scores::Constant(score) => return *score,
            Scores::Tabulated(table) => table[usize::from(length)].get((occurrences as usize).wrapping_sub(1)),
            Scores::Computed => None,
        };
        tabulated.copied().unwrap_or_else(|| scaled(self.weight, length, occurrences))
    }
}

pub(super) struct Segment<'a> {
    pub(super) number: usize,
    pub(super) reader: &'a SegmentReader,
    pub(super) index: Arc<InvertedIndexReader>,
    pub(super) lengths: FieldNormReader,
}

impl Segment<'_> {
    pub(super) fn address(&self, document: DocId) -> DocAddress {
        DocAddress::new(self.number as u32, document)
    }

    /// The list of a term, if the segment has any.
    pub(super) fn list<'a>(&self, term: &'a Sought<'a>) -> Result<Option<List<'a>>, IndexError> {
        let lists = &term.indexed.lists;
        let Ok(at) = lists.binary_search_by_key(&self.number, |(segment, _)| *segment) else {
            return Ok(None);
        };
        let block = self.index.read_block_postings_from_terminfo(&lists[at].1, IndexRecordOption::WithFreqs)?;
        Ok(Some(List { term, block, at: 0, left: u64::MAX }))
    }
}

/// The list of one term in one segment, and how far it was read.
pub(super) struct List<'a> {
    term: &'a Sought<'a>,
    block: BlockSegmentPostings,
    /// The next in the block.
    at: usize,
    /// How many may still be read.
    pub(super) left: u64,
}

impl List<'_> {
    /// How many passages have the term in this segment.
    pub(super) fn length(&self) -> u32 {
        self.block.doc_freq()
    }

    /// The next document that was not read.
    pub(super) fn next(&mut self) -> DocId {
        if self.at == self.block.block_len() {
            self.block.advance();
            self.at = 0;
        }
        if self.left == 0 { TERMINATED } else { self.block.docs().get(self.at).copied().unwrap_or(TERMINATED) }
    }

    /// Reads on up to a document; `each` gets what the term adds to the score of each that has it. Returns how many that were.
    pub(super) fn read(&mut self, end: DocId, lengths: &FieldNormReader, mut each: impl FnMut(DocId, Scaled)) -> u64 {
        let left = self.left;
        while self.next() < end {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            let documents = self.block.docs()[self.at..].iter().zip(&self.block.freqs()[self.at..]);
            let mut read = 0;
            for (document, occurrences) in documents.take_while(|(document, _)| **document < end).take(most) {
                each(*document, self.term.score(lengths.fieldnorm_id(*document), *occurrences));
                read += 1;
            }
            self.at += read;
            self.left -= read as u64;
        }
        left - self.left
    }

    /// What the term adds to the score of a document, which is not before the last that was asked for.
    pub(super) fn look_up(&mut self, document: DocId, lengths: &FieldNormReader) -> Scaled {
        let at = self.block.seek(document);
        if self.block.doc(at) != document {
            return 0;
        }
        self.term.score(lengths.fieldnorm_id(document), self.block.freq(at))
    }
}

/// Documents that are read together: one array holds their scores.
pub(super) const WINDOW: usize = 4_096;

/// Documents of these of which it is noted together that one was brought, or has the score that is wanted.
const TOGETHER: usize = WINDOW / 64;

pub(super) struct Window {
    pub(super) first: DocId,
    scores: [Scaled; WINDOW],
    /// A bit for each [`TOGETHER`]: whether any of them was brought. What was brought has a score.
    brought: u64,
    /// A bit for each document, [`TOGETHER`] in a number: whether it has the score that was wanted while lists were read.
    wanted: [u64; WINDOW / TOGETHER],
}

impl Window {
    pub(super) fn new() -> Self {
        Self { first: 0, scores: [0; WINDOW], brought: 0, wanted: [0; WINDOW / TOGETHER] }
    }

    /// Adds what a list has in the window, where a score of at least `from` is wanted in all; returns how many that were.
    pub(super) fn read(&mut self, list: &mut List<'_>, lengths: &FieldNormReader, from: Scaled) -> u64 {
        let first = self.first;
        list.read(first + WINDOW as DocId, lengths, |document, score| {
            let place = (document - first) as usize % WINDOW;
            self.scores[place] += score;
            self.brought |= 1 << (place / TOGETHER);
            // Most are not wanted, and going through all that were brought once more would take as long as reading them.
            self.wanted[place / TOGETHER] |= u64::from(self.scores[place] >= from) << (place % TOGETHER);
        })
    }

    /// Takes out those that have the score that was wanted while lists were read, in their order, and drops the others.
    pub(super) fn take(&mut self, mut each: impl FnMut(DocId, Scaled)) {
        let mut left = std::mem::take(&mut self.brought);
        while left != 0 {
            let together = left.trailing_zeros() as usize;
            left &= left - 1;
            let (begin, mut wanted) = (together * TOGETHER, std::mem::take(&mut self.wanted[together]));
            while wanted != 0 {
                let place = begin + wanted.trailing_zeros() as usize;
                wanted &= wanted - 1;
                each(self.first + place as DocId, self.scores[place]);
            }
            self.scores[begin..begin + TOGETHER].fill(0);
        }
    }
}
