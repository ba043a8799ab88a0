//! The passages in tantivy's segments that match a question best, with a bound on what is looked at: by BM25, or by which of the
//! terms they have.
//!
//! **Pruned, without changing the result** (MaxScore, Turtle and Flood 1995). Only the rarest terms *bring* passages: those
//! without which no passage can come above the `max` best that are known. The others only add to the score of passages that
//! were brought: these are *looked up* in their lists, those of all segments by one term after the other, and after each
//! term those are dropped that cannot be among the best any more. The best of each segment are looked up at once with all
//! terms: what they have in full rules out most of the next segments.
//!
//! **Bounded, whatever is asked.** Where the terms are so frequent that this is not enough, there are two [`Limits`]: the terms
//! that bring passages, rarest first, may bring so many in all; and so many are looked up in the lists of the other terms. With
//! each term fewer passages are left to be looked up, those with the highest scores so far, so that most of the limit goes to
//! choosing between many. [`Found::exact`] says whether anything that was passed over could have been among the best. The
//! limits count passages and not time, so the same index gives the same answer.
//!
//! A look-up takes much longer than bringing a passage, since it unpacks a block of the list for one passage of it. So where
//! all passages of all terms are within the first limit, but not what has to be looked up, all are brought.
//!
//! By which of the terms they have, the same way finds passages that are too long for BM25, but only those that have more than is
//! known from the search before: it mostly ends at the lists of the rarest terms.

use std::cmp::Reverse;

use tantivy::query::Bm25Weight;
use tantivy::{DocAddress, DocId, Searcher, SegmentReader, TERMINATED};

use super::IndexError;
use super::postings::{Indexed, Scaled, Scoring, Segment, Sought, WINDOW, Window};

/// How much a search may look at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Passages that terms bring, counted for each term. The rarest term brings this many even where it has more.
    pub(super) brought: u64,
    /// How often passages that were brought are looked up in the list of another term; a little more where `max` passages alone
    /// take more.
    pub(super) looked_up: u64,
}

impl Limits {
    /// Enough that all is searched to the last where terms have so many passages together that all may be brought;
    /// docs/answers.md says what is lost beyond.
    pub(super) const USUAL: Self = Self { brought: 200_000, looked_up: 3_000 };

    /// For a second search of the same terms, which is to take little beside the first: it is for rare terms.
    pub(super) const SECOND: Self = Self { brought: 50_000, looked_up: 1_000 };
}

/// How many passages that are as good as the last of the best are kept beside them, so that these can be chosen by something
/// that is the same in every replica.
pub(super) const TIED: usize = 256;

/// What a search has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The best, best first, and those that are as good as the last of these; equal ones in the order of segments and of
    /// documents in them.
    pub(super) best: Vec<(Scaled, DocAddress)>,
    /// How many passages were brought, counted for each term, and how often one was looked up.
    pub(super) looked_at: Limits,
    /// Whether nothing that was passed over can be better than the last of the best.
    pub(super) exact: bool,
}

/// What a search is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) scoring: Scoring,
    /// Only what has a higher score.
    pub(super) above: Scaled,
    /// So many at most, but for equal ones.
    pub(super) max: usize,
}

/// Searches the segments for the passages that have the highest scores by these terms. `is_hidden` says of a document whether it
/// does not count any more, although it is in a segment.
pub(super) fn best_in_segments(
    searcher: &Searcher,
    terms: &[(&Indexed, Bm25Weight)],
    is_hidden: &dyn Fn(DocAddress) -> bool,
    wanted: Wanted,
    limits: Limits,
) -> Result<Found, IndexError> {
    // Rarest first: these can add most. The term itself decides where they are equally rare.
    let mut terms: Vec<&(&Indexed, Bm25Weight)> = terms.iter().filter(|(term, _)| term.frequency > 0).collect();
    terms.sort_by(|(a, _), (b, _)| a.frequency.cmp(&b.frequency).then_with(|| a.term.cmp(&b.term)));
    let Some((first, _)) = terms.first() else {
        return Ok(Found { exact: true, ..Found::default() });
    };
    let mut segments = all_segments(searcher, first)?;
    // Large ones first: what is found in them rules out most of the rest.
    segments.sort_by_key(|segment| Reverse(segment.reader.max_doc()));
    let bring = bringing(&terms, limits);
    let terms: Vec<Sought<'_>> =
        terms.into_iter().enumerate().map(|(at, term)| Sought::new(term, wanted.scoring, at < bring)).collect();
    let mut search = Search::new(&terms, bring, &segments, wanted, limits);
    let mut found = search.run(is_hidden)?;
    if !found.exact && terms.iter().map(|term| term.indexed.frequency).sum::<u64>() <= limits.brought {
        let shown = found.best.get(wanted.max - 1).map_or(0, |(score, _)| *score).max(search.shown);
        let looked_at = found.looked_at;
        search = Search { brings_all: true, shown, looked_at, ..Search::new(&terms, bring, &segments, wanted, limits) };
        found = search.run(is_hidden)?;
    }
    found.best.retain(|(score, _)| *score > wanted.above);
    Ok(found)
}

/// What the terms add to the scores of these passages.
pub(super) fn scores_in_segments(
    searcher: &Searcher,
    terms: &[(&Indexed, Bm25Weight)],
    scoring: Scoring,
    of: &[DocAddress],
) -> Result<Vec<Scaled>, IndexError> {
    let mut scores = vec![0; of.len()];
    let Some((first, _)) = terms.first() else {
        return Ok(scores);
    };
    let segments = all_segments(searcher, first)?;
    let mut order: Vec<usize> = (0..of.len()).collect();
    order.sort_unstable_by_key(|at| of[*at]);
    for term in terms {
        let term = Sought::new(term, scoring, false);
        for together in order.chunk_by(|a, b| of[*a].segment_ord == of[*b].segment_ord) {
            let segment = &segments[of[together[0]].segment_ord as usize];
            if let Some(mut list) = segment.list(&term)? {
                together.iter().for_each(|at| scores[*at] += list.look_up(of[*at].doc_id, &segment.lengths));
            }
        }
    }
    Ok(scores)
}

fn all_segments<'a>(searcher: &'a Searcher, term: &Indexed) -> Result<Vec<Segment<'a>>, IndexError> {
    let field = term.term.field();
    let segment = |(number, reader): (usize, &'a SegmentReader)| {
        let (lengths, index) = (reader.get_fieldnorms_reader(field)?, reader.inverted_index(field)?);
        Ok(Segment { number, reader, index, lengths })
    };
    searcher.segment_readers().iter().enumerate().map(segment).collect()
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

/// A passage that was brought.
#[derive(Clone, Copy)]
struct Brought {
    /// Its score by the terms that it was brought by or looked up with.
    score: Scaled,
    /// Which of the segments it is in, by their size.
    segment: u32,
    document: DocId,
    /// The first of the terms that it is to be looked up with.
    next: u32,
}

struct Search<'a> {
    /// Rarest first.
    terms: &'a [Sought<'a>],
    /// For each of them, what it and all after it can add to a score together, at most; and nothing after the last.
    rest: Vec<Scaled>,
    /// Largest first.
    segments: &'a [Segment<'a>],
    max: usize,
    limits: Limits,
    /// How many of the terms bring passages; fewer and fewer, as more is known.
    bring: usize,
    /// Whether terms bring passages that could be ruled out without them, so that nothing has to be looked up.
    brings_all: bool,
    /// What the best have at least, as far as it is known before.
    shown: Scaled,
    /// Those with the highest scores that are known so far, highest first, `max` at most.
    best: Vec<Brought>,
    /// In the order of segments and of documents in them.
    brought: Vec<Brought>,
    /// What those have at least that are kept as brought from now on.
    floor: Scaled,
    /// The highest score that anything may have that was passed over because of a limit.
    passed_over: Scaled,
    looked_at: Limits,
}

impl<'a> Search<'a> {
    fn new(terms: &'a [Sought<'a>], bring: usize, segments: &'a [Segment<'a>], wanted: Wanted, limits: Limits) -> Self {
        // What has as much as the best is not to be ruled out, nor what rounding makes a little more. Coverage is not rounded.
        let slack = |at: usize| Scaled::from(wanted.scoring == Scoring::Bm25 || at + 1 == terms.len());
        let mut rest = vec![0; terms.len() + 1];
        for (at, term) in terms.iter().enumerate().rev() {
            rest[at] = rest[at + 1] + wanted.scoring.score(term.weight, 0, u32::MAX) + slack(at);
        }
        Self {
            terms,
            segments,
            max: wanted.max,
            limits,
            bring,
            brings_all: false,
            shown: if wanted.above > 0 { wanted.above + 1 } else { 0 },
            best: Vec::with_capacity(wanted.max + 1),
            brought: Vec::new(),
            floor: 0,
            // What only the terms have that may bring nothing.
            passed_over: rest[bring],
            rest,
            looked_at: Limits::default(),
        }
    }

    fn run(&mut self, is_hidden: &dyn Fn(DocAddress) -> bool) -> Result<Found, IndexError> {
        for segment in 0..self.segments.len() {
            self.bring_from(segment, is_hidden)?;
            self.look_up_best()?;
        }
        let mut found = self.look_up_brought()?;
        // Those that are known in full: among those that were brought, a limit may have dropped them for what they had in part.
        found.extend_from_slice(&self.best);
        let address = |found: &Brought| self.segments[found.segment as usize].address(found.document);
        found.sort_unstable_by_key(|found| (Reverse(found.score), address(found)));
        found.dedup_by_key(|found| address(found));
        let least = found.get(self.max - 1).map_or(0, |last| last.score);
        let best = found.iter().take_while(|found| found.score >= least).take(self.max + TIED);
        Ok(Found {
            best: best.map(|found| (found.score, address(found))).collect(),
            looked_at: self.looked_at,
            exact: self.passed_over <= least.max(self.shown),
        })
    }

    /// The score that the best have at least.
    fn least(&self) -> Scaled {
        self.best.get(self.max - 1).map_or(0, |last| last.score).max(self.shown)
    }

    /// The score from which on a passage may be among the best, or is kept as brought.
    fn wanted(&self) -> Scaled {
        self.least().saturating_sub(self.rest[self.bring]).max(self.floor).max(1)
    }

    /// Takes a passage that has the score that was wanted; returns which is from now on.
    fn offer(&mut self, at: usize, is_hidden: &dyn Fn(DocAddress) -> bool, document: DocId, score: Scaled) -> Scaled {
        let segment = &self.segments[at];
        if !segment.reader.is_deleted(document) && !is_hidden(segment.address(document)) {
            let brought = Brought { score, segment: at as u32, document, next: self.bring as u32 };
            if score > self.least() {
                self.note_best(brought);
            }
            self.brought.push(brought);
        }
        self.wanted()
    }

    fn note_best(&mut self, brought: Brought) {
        let place = self.best.partition_point(|other| other.score >= brought.score);
        self.best.insert(place, brought);
        self.best.truncate(self.max);
    }

    fn pass_over(&mut self, score: Scaled) {
        self.passed_over = self.passed_over.max(score);
    }

    /// Of those that are brought so many are kept, with the highest scores.
    fn most(&self) -> usize {
        usize::try_from(self.limits.looked_up).unwrap_or(usize::MAX / 2).clamp(self.max + TIED, usize::MAX / 2)
    }

    /// Reads the lists of the terms that bring passages, and takes those that can be among the best.
    fn bring_from(&mut self, at: usize, is_hidden: &dyn Fn(DocAddress) -> bool) -> Result<(), IndexError> {
        let (segments, most) = (self.segments, self.most());
        let segment = &segments[at];
        let mut lists = Vec::with_capacity(self.bring);
        for term in &self.terms[..self.bring] {
            lists.push(segment.list(term)?);
        }
        // Only the rarest term can have more than the limit.
        if let (Some(Some(list)), Some(term)) = (lists.first_mut(), self.terms.first())
            && term.indexed.frequency > self.limits.brought
        {
            let share = u128::from(self.limits.brought) * u128::from(list.length());
            list.left = share.div_ceil(u128::from(term.indexed.frequency)) as u64;
        }
        let mut window = Window::new();
        loop {
            // A term brings nothing any more once all from it on are not enough.
            while self.bring > 0 && !self.brings_all && self.rest[self.bring - 1] <= self.least() {
                self.bring -= 1;
            }
            lists.truncate(self.bring);
            let next = lists.iter_mut().flatten().map(|list| list.next()).min().unwrap_or(TERMINATED);
            if next == TERMINATED {
                break;
            }
            let (mut from, end) = (self.wanted(), next.saturating_add(WINDOW as DocId));
            let wanted = from;
            let mut take = |document, score| {
                if score >= from {
                    from = self.offer(at, is_hidden, document, score);
                }
            };
            let mut reading = lists.iter_mut().flatten().filter_map(|list| (list.next() < end).then_some(list));
            let read = match (reading.next(), reading.next()) {
                // With one list, there is nothing to add up.
                (Some(list), None) => list.read(end, &segment.lengths, take),
                (first, second) => {
                    window.first = next;
                    let lists = first.into_iter().chain(second).chain(reading);
                    let read: u64 = lists.map(|list| window.read(list, &segment.lengths, wanted)).sum();
                    window.take(&mut take);
                    read
                }
            };
            self.looked_at.brought += read;
            // Those that are below what the best have need no limit to be dropped.
            if self.floor > self.least().saturating_sub(self.rest[self.bring]) {
                self.pass_over(self.floor - 1 + self.rest[self.bring]);
            }
            if self.brought.len() > 2 * most {
                let mut brought = std::mem::take(&mut self.brought);
                // Of those that are as good as the last, the first are kept, and all that come from now on come later.
                self.floor = self.keep_best(most, &mut brought) + 1;
                self.brought = brought;
            }
        }
        // Those that a limit has cut off, wherever they are.
        if lists.iter().flatten().any(|list| list.left == 0) {
            self.pass_over(self.rest[0]);
        }
        Ok(())
    }

    /// Keeps so many of those that were brought, with the highest scores, and the first of those that are as good as the last of
    /// these. Returns what all have that are kept.
    fn keep_best(&mut self, most: usize, brought: &mut Vec<Brought>) -> Scaled {
        if brought.len() <= most {
            return 0;
        }
        let mut scores: Vec<Scaled> = brought.iter().map(|brought| brought.score).collect();
        let (_, floor, _) = scores.select_nth_unstable_by_key(most - 1, |score| Reverse(*score));
        let (floor, mut cut) = (*floor, 0);
        let mut equal = most - brought.iter().filter(|brought| brought.score > floor).count();
        brought.retain(|brought| {
            let keep = brought.score > floor || brought.score == floor && equal > 0;
            equal -= usize::from(keep && brought.score == floor);
            if !keep {
                cut = cut.max(brought.score + self.rest[brought.next as usize]);
            }
            keep
        });
        self.pass_over(cut);
        floor
    }

    /// Looks those with the highest scores so far up with all terms.
    fn look_up_best(&mut self) -> Result<(), IndexError> {
        let (known, mut unknown): (Vec<_>, Vec<_>) =
            self.best.drain(..).partition(|best| best.next as usize == self.terms.len());
        unknown.sort_unstable_by_key(|brought| (brought.segment, brought.document));
        for term in self.bring..self.terms.len() {
            self.look_up(term, &mut unknown)?;
        }
        known.into_iter().chain(unknown).for_each(|best| self.note_best(best));
        Ok(())
    }

    /// Looks all that were brought up in the lists of the other terms, as long as they can be among the best.
    fn look_up_brought(&mut self) -> Result<Vec<Brought>, IndexError> {
        let mut brought = std::mem::take(&mut self.brought);
        self.keep_best(self.most(), &mut brought);
        let (mut least, mut scores) = (self.least(), Vec::new());
        for term in self.bring..self.terms.len() {
            brought.retain(|brought| brought.score + self.rest[brought.next as usize] >= least);
            self.keep_for(term, &mut brought);
            self.look_up(term, &mut brought)?;
            if brought.len() > self.max {
                scores.clear();
                scores.extend(brought.iter().map(|brought| brought.score));
                let (_, last, _) = scores.select_nth_unstable_by_key(self.max - 1, |score| Reverse(*score));
                least = least.max(*last);
            }
        }
        Ok(brought)
    }

    /// Keeps so many of those that were brought, with the highest scores, that the limit is enough for this term and those after it.
    fn keep_for(&mut self, term: usize, brought: &mut Vec<Brought>) {
        let (left, terms) = (self.limits.looked_up.saturating_sub(self.looked_at.looked_up), self.terms.len() - term);
        if (brought.len() * terms) as u64 <= left {
            return;
        }
        // So many that with each term after it as many fewer can be looked up as with the one before it.
        let most = (2 * left / (terms as u64 + 1)).max(self.max as u64) as usize;
        self.keep_best(most, brought);
    }

    /// Looks those up in the lists of a term that were not yet, in the order of segments and of documents in them.
    fn look_up(&mut self, term: usize, brought: &mut [Brought]) -> Result<(), IndexError> {
        let segments = self.segments;
        for brought in brought.chunk_by_mut(|a, b| a.segment == b.segment) {
            let mut waiting = brought.iter_mut().filter(|brought| brought.next as usize <= term).peekable();
            let Some(segment) = waiting.peek().map(|first| &segments[first.segment as usize]) else {
                continue;
            };
            let mut list = segment.list(&self.terms[term])?;
            for brought in waiting {
                brought.next = term as u32 + 1;
                if let Some(list) = &mut list {
                    brought.score += list.look_up(brought.document, &segment.lengths);
                    self.looked_at.looked_up += 1;
                }
            }
        }
        Ok(())
    }
}
