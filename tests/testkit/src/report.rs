//! What came of a load: what its clients saw, and what the system held in the end.

use std::collections::BTreeMap;
use std::fmt;

use multivac_core::queue::Ledger;

/// What the clients saw, and what the system held in the end.
pub struct Report {
    /// Data that got a 200.
    pub confirmed: usize,
    /// Those of them that were retracted.
    pub retracted: usize,
    /// Replies of 503.
    pub refused: u64,
    /// Requests whose connection broke before the reply.
    pub lost: u64,
    /// How often a ledger was polled.
    pub polls: u64,
    /// Questions that were answered.
    pub answers: u64,
    /// Questions that a replica did not answer, since it could not know of retractions.
    pub fenced: u64,
    /// Data that MongoDB refuses, all of which became dead letters.
    pub poison: usize,
    /// Data that an answer rested on just before they were retracted.
    pub shown_before: u64,
    /// Replicas that were asked for a datum after its retraction got a 204, and replied without it.
    pub gone_after: u64,
    /// For how long the slowest datum was sent again until it got a 200.
    pub longest_ms: u64,
    /// Data that got no 200 and were not sent again: by what came instead, how many, and how many of them were accepted.
    pub unconfirmed: BTreeMap<&'static str, (u64, u64)>,
    /// The ledger in the end.
    pub ledger: Ledger,
    /// Each broken promise.
    pub wrong: Vec<String>,
}

impl Report {
    /// Fails when anything was wrong.
    pub fn assert_all_is_there(&self) {
        assert!(self.wrong.is_empty(), "{self}");
        assert!(self.confirmed > 0 && self.polls > 0 && self.answers > 0, "nothing was tried: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { accepted, queued, processing, learned, retracted, dead } = self.ledger;
        writeln!(f, "data that got a 200          {}", self.confirmed)?;
        writeln!(f, "of them retracted            {}", self.retracted)?;
        writeln!(f, "shown before, gone after 204 {}, {}", self.shown_before, self.gone_after)?;
        writeln!(f, "of them dead letters         {}", self.poison)?;
        writeln!(f, "replies of 503               {}", self.refused)?;
        writeln!(f, "replies lost                 {}", self.lost)?;
        writeln!(f, "longest until a 200          {:.1} s", self.longest_ms as f64 / 1000.0)?;
        for (why, (all, there)) in &self.unconfirmed {
            writeln!(f, "not sent again after {why:<8}{all}, accepted all the same: {there}")?;
        }
        writeln!(f, "ledgers polled, all balanced {}", self.polls)?;
        writeln!(f, "questions answered, fenced   {}, {}", self.answers, self.fenced)?;
        writeln!(
            f,
            "ledger                       accepted {accepted} = queued {queued} + processing {processing} + learned \
            {learned} + retracted {retracted} + dead {dead}"
        )?;
        writeln!(f, "wrong                        {}", self.wrong.len())?;
        self.wrong.iter().take(20).try_for_each(|wrong| writeln!(f, "  {wrong}"))
    }
}
