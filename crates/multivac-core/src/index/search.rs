//! The passages in tantivy's segments that match a question best, by BM25, with a bound on what is looked at.
//!
//! **Pruned, without changing the result** (MaxScore, Turtle and Flood 1995). Only the rarest terms *bring* passages: those
//! without which no passage can come above the `max` best that are known. The others only add to the score of passages that
//! were brought. The best that are known are those of all segments so far, so later segments are hardly looked at.
//!
//! **Bounded, whatever is asked.** Where the terms are so frequent that this is not enough, there are two [`Limits`]: the terms
//! that bring passages, rarest first, may bring so many in all, and only so many of these are looked up in the lists of the
//! other terms, those with the highest scores so far. [`Found::exact`] says whether anything that was passed over could have
//! been among the best. The limits count passages and not time, so the same index gives the same answer.
//!
//! Scores are added up as whole numbers, in which the order of addition makes no difference.

use std::cmp::Reverse;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::query::Bm25Weight;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, Searcher, SegmentReader, TERMINATED, Term};

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

/// How much a search may look at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Passages that terms bring, counted for each term. The rarest term brings this many even where it has more.
    pub(super) brought: u64,
    /// Passages that are looked up in the lists of the terms that bring none.
    pub(super) completed: u64,
}

impl Limits {
    /// Enough that fewer than 8,000 passages are always searched to the last; docs/answers.md says what is lost beyond.
    pub(super) const USUAL: Self = Self { brought: 500_000, completed: 8_000 };
}

/// What a search has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The best, best first; equal ones in the order of segments and of documents in them.
    pub(super) best: Vec<(Scaled, DocAddress)>,
    /// How many passages were brought, counted for each term, and how many of them completed.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold it against the limits"))]
    pub(super) looked_at: Limits,
    /// Whether nothing that was passed over can be better than the last of the best.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with all passages then"))]
    pub(super) exact: bool,
}

/// Searches the segments for the passages that match these terms best, `max` at most. `is_hidden` says of a document whether
/// it does not count any more, although it is in a segment.
pub(super) fn best_in_segments(
    searcher: &Searcher,
    terms: &[(&Indexed, Bm25Weight)],
    is_hidden: &dyn Fn(DocAddress) -> bool,
    max: usize,
    limits: Limits,
) -> Result<Found, IndexError> {
    // Rarest first: these can add most. The term itself decides where they are equally rare.
    let mut terms: Vec<&(&Indexed, Bm25Weight)> = terms.iter().filter(|(term, _)| term.frequency > 0).collect();
    terms.sort_by(|(a, _), (b, _)| a.frequency.cmp(&b.frequency).then_with(|| a.term.cmp(&b.term)));
    let mut search = Search {
        can_add: Vec::new(),
        bring: bringing(&terms, limits),
        terms,
        best: Best { max, found: Vec::with_capacity(max + 1) },
        passed_over: 0,
        looked_at: Limits { brought: 0, completed: 0 },
        limits,
        passages: searcher.segment_readers().iter().map(|segment| u64::from(segment.max_doc())).sum(),
    };
    search.can_add = search.terms.iter().map(|(_, weight)| scaled(weight, 0, u32::MAX) + 1).collect();
    // Large ones first: what is found in them rules out most of the rest.
    let mut segments: Vec<(usize, &SegmentReader)> = searcher.segment_readers().iter().enumerate().collect();
    segments.sort_by_key(|(_, segment)| Reverse(segment.max_doc()));
    for (at, segment) in segments {
        search.segment(at, segment, is_hidden)?;
    }
    // What only the terms have that may bring nothing.
    search.pass_over(search.can_add_from(search.bring));
    Ok(Found {
        exact: search.passed_over <= search.best.least(),
        looked_at: search.looked_at,
        best: search.best.found.into_iter().map(|(score, Reverse(at))| (score, at)).collect(),
    })
}

/// How many of the terms may bring passages: the rarest, as far as the limit goes, and one at least.
fn bringing(terms: &[&(&Indexed, Bm25Weight)], limits: Limits) -> usize {
    let mut brought = 0;
    let within = terms.iter().take_while(|(term, _)| {
        brought += term.frequency;
        brought <= limits.brought
    });
    within.count().max(1).min(terms.len())
}

/// The best so far, best first; of equal ones the first that came.
struct Best {
    max: usize,
    found: Vec<(Scaled, Reverse<DocAddress>)>,
}

impl Best {
    /// The score that the next one must be above.
    fn least(&self) -> Scaled {
        self.found.get(self.max - 1).map_or(0, |(score, _)| *score)
    }

    fn add(&mut self, score: Scaled, at: DocAddress) {
        let place = self.found.partition_point(|(other, _)| *other >= score);
        self.found.insert(place, (score, Reverse(at)));
        self.found.truncate(self.max);
    }
}

/// A passage that was brought.
struct Brought {
    /// Its score by the terms that brought it.
    score: Scaled,
    document: DocId,
    /// The first of the terms that it is to be looked up with, among those of its segment.
    next: usize,
}

/// The list of one term in one segment, and how far it was read.
struct List<'a> {
    weight: &'a Bm25Weight,
    can_add: Scaled,
    block: BlockSegmentPostings,
    /// The next in the block.
    at: usize,
    /// How many may still be read.
    left: u64,
}

impl List<'_> {
    /// The next document that was not read.
    fn next(&mut self) -> DocId {
        if self.at == self.block.block_len() {
            self.block.advance();
            self.at = 0;
        }
        if self.left == 0 { TERMINATED } else { self.block.docs().get(self.at).copied().unwrap_or(TERMINATED) }
    }

    /// What the term adds to the score of a document, which is not before the last that was asked for.
    fn look_up(&mut self, document: DocId, lengths: &FieldNormReader) -> Scaled {
        let at = self.block.seek(document);
        if self.block.doc(at) != document {
            return 0;
        }
        scaled(self.weight, lengths.fieldnorm_id(document), self.block.freq(at))
    }
}

/// Documents that are read together: one array holds their scores.
const WINDOW: usize = 4_096;

struct Window {
    first: DocId,
    scores: [Scaled; WINDOW],
    /// A bit for each that was brought.
    brought: [u64; WINDOW / 64],
}

impl Window {
    /// Adds what a list has in the window; returns how many that were.
    fn read(&mut self, list: &mut List<'_>, lengths: &FieldNormReader) -> u64 {
        let end = self.first + WINDOW as DocId;
        let left = list.left;
        while list.next() < end {
            let most = usize::try_from(list.left).unwrap_or(usize::MAX);
            let documents = list.block.docs()[list.at..].iter().zip(&list.block.freqs()[list.at..]);
            let mut read = 0;
            for (document, occurrences) in documents.take_while(|(document, _)| **document < end).take(most) {
                let place = (document - self.first) as usize;
                self.scores[place] += scaled(list.weight, lengths.fieldnorm_id(*document), *occurrences);
                self.brought[place / 64] |= 1 << (place % 64);
                read += 1;
            }
            list.at += read;
            list.left -= read as u64;
        }
        left - list.left
    }

    /// Takes out all that were brought, in their order.
    fn take(&mut self, mut each: impl FnMut(DocId, Scaled)) {
        for (at, bits) in self.brought.iter_mut().enumerate() {
            let mut left = std::mem::take(bits);
            while left != 0 {
                let place = at * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                each(self.first + place as DocId, std::mem::take(&mut self.scores[place]));
            }
        }
    }
}

struct Search<'a> {
    /// Rarest first.
    terms: Vec<&'a (&'a Indexed, Bm25Weight)>,
    /// What each of them can add to a score at most.
    can_add: Vec<Scaled>,
    /// How many of them may bring passages.
    bring: usize,
    best: Best,
    /// The highest score that anything may have that was passed over because of a limit.
    passed_over: Scaled,
    looked_at: Limits,
    limits: Limits,
    /// In all segments.
    passages: u64,
}

impl Search<'_> {
    /// What all terms from this one on can add together.
    fn can_add_from(&self, term: usize) -> Scaled {
        self.can_add[term..].iter().sum()
    }

    fn pass_over(&mut self, score: Scaled) {
        self.passed_over = self.passed_over.max(score);
    }

    /// Of a limit, what a part of all has.
    fn share(limit: u64, part: u64, all: u64) -> u64 {
        (u128::from(limit) * u128::from(part)).div_ceil(u128::from(all.max(1))) as u64
    }

    fn segment(
        &mut self,
        number: usize,
        segment: &SegmentReader,
        is_hidden: &dyn Fn(DocAddress) -> bool,
    ) -> Result<(), IndexError> {
        let Some((first, _)) = self.terms.first() else { return Ok(()) };
        let (lengths, index) =
            (segment.get_fieldnorms_reader(first.term.field())?, segment.inverted_index(first.term.field())?);
        let mut lists = Vec::with_capacity(self.terms.len());
        let mut bring = 0;
        for (at, (term, weight)) in self.terms.iter().enumerate() {
            let Some((_, list)) = term.lists.iter().find(|(segment, _)| *segment == number) else { continue };
            let block = index.read_block_postings_from_terminfo(list, IndexRecordOption::WithFreqs)?;
            // Only the rarest term can have more than the limit.
            let left = match term.frequency > self.limits.brought {
                true => Self::share(self.limits.brought, list.doc_freq.into(), term.frequency),
                false => u64::MAX,
            };
            lists.push(List { weight, can_add: self.can_add[at], block, at: 0, left });
            bring += usize::from(at < self.bring);
        }
        let (brought, least) = self.bring_passages(number, segment, &mut lists, bring, &lengths, is_hidden);
        self.complete(number, &brought, least, &mut lists, &lengths);
        Ok(())
    }

    /// Reads the lists of the terms that bring passages, and takes those that can be among the best; also returns what these
    /// have at least.
    fn bring_passages(
        &mut self,
        number: usize,
        segment: &SegmentReader,
        lists: &mut [List<'_>],
        mut bring: usize,
        lengths: &FieldNormReader,
        is_hidden: &dyn Fn(DocAddress) -> bool,
    ) -> (Vec<Brought>, Scaled) {
        let most = Self::share(self.limits.completed, segment.max_doc().into(), self.passages) as usize;
        let mut window = Window { first: 0, scores: [0; WINDOW], brought: [0; WINDOW / 64] };
        let mut brought: Vec<Brought> = Vec::new();
        // As if the terms that bring passages were all: no score can be less.
        let mut best = Best { max: self.best.max, found: self.best.found.clone() };
        // What those without the best scores so far have at most.
        let mut floor = 0;
        loop {
            // A term brings nothing any more once all from it on are not enough.
            let rest = |from: usize| lists[from..].iter().map(|list| list.can_add).sum::<Scaled>();
            while bring > 0 && rest(bring - 1) <= best.least() {
                bring -= 1;
            }
            let rest = rest(bring);
            let next = lists[..bring].iter_mut().map(List::next).min().unwrap_or(TERMINATED);
            if next == TERMINATED {
                break;
            }
            window.first = next;
            for list in &mut lists[..bring] {
                self.looked_at.brought += window.read(list, lengths);
            }
            window.take(|document, score| {
                let at = DocAddress::new(number as u32, document);
                if score + rest <= best.least() || segment.is_deleted(document) || is_hidden(at) {
                    return;
                }
                if score > best.least() {
                    best.add(score, at);
                }
                if score >= floor {
                    brought.push(Brought { score, document, next: bring });
                } else {
                    self.passed_over = self.passed_over.max(score + rest);
                }
            });
            if brought.len() > 2 * most {
                floor = self.keep_best(&mut brought, most, lists);
            }
        }
        // Those that a limit has cut off, wherever they are.
        if lists[..bring].iter().any(|list| list.left == 0) {
            self.pass_over(lists.iter().map(|list| list.can_add).sum());
        }
        self.keep_best(&mut brought, most, lists);
        brought.sort_unstable_by_key(|brought| brought.document);
        (brought, best.least())
    }

    /// Keeps so many with the highest scores; returns the lowest of these.
    fn keep_best(&mut self, brought: &mut Vec<Brought>, most: usize, lists: &[List<'_>]) -> Scaled {
        if brought.len() <= most {
            return 0;
        }
        brought.select_nth_unstable_by_key(most, |brought| (Reverse(brought.score), brought.document));
        let floor = brought[most].score;
        for cut in brought.drain(most..) {
            let rest: Scaled = lists[cut.next..].iter().map(|list| list.can_add).sum();
            self.passed_over = self.passed_over.max(cut.score + rest);
        }
        floor
    }

    /// Looks the passages that were brought up in the lists of the other terms, as long as they can be among the best, which
    /// takes a score of `least` at least.
    fn complete(
        &mut self,
        number: usize,
        brought: &[Brought],
        least: Scaled,
        lists: &mut [List<'_>],
        lengths: &FieldNormReader,
    ) {
        'brought: for &Brought { mut score, document, next } in brought {
            let mut rest: Scaled = lists[next..].iter().map(|list| list.can_add).sum();
            let least = least.max(self.best.least() + 1);
            if score + rest < least {
                continue;
            }
            self.looked_at.completed += 1;
            for list in &mut lists[next..] {
                rest -= list.can_add;
                score += list.look_up(document, lengths);
                if score + rest < least {
                    continue 'brought;
                }
            }
            self.best.add(score, DocAddress::new(number as u32, document));
        }
    }
}
