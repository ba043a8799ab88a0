//! What all event streams of this replica share: the answers that are watched, kept up to date; the ledger, once a second;
//! and whether this replica may still answer.
//!
//! Answers are worked out one after the other, each on a thread that answers questions. So a question that a person asks waits
//! behind one watched answer at most, and an index that changes faster than all of them can be worked out costs no more: each is
//! worked out for the state that is there when its turn comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::future::join3;
use multivac_core::answer::{WatchedAnswer, WatchedAnswers};
use multivac_core::status::Registry;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::answering::{AnswerPanicked, AnswerThreads};
use crate::replies::Stats;
use crate::sse::event;

/// How often the ledger is read while somebody follows it: a little less often than it may be sent, so that no stream has to
/// hold an event back.
const STATS_INTERVAL: Duration = Duration::from_millis(1_050);

/// How long the queue may take to tell it.
const STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is looked whether this replica may answer, and who watches.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How long the next states of the index may be left out, after all answers were worked out for one.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// See the [module](self).
pub(crate) struct Watching {
    /// The answers.
    pub(crate) answers: WatchedAnswers,
    registry: Registry,
    answering: Arc<AnswerThreads>,
    turn: Mutex<()>,
    stats: watch::Sender<Bytes>,
    /// When the last reading of the ledger began.
    stats_read: Mutex<Option<Instant>>,
    fenced: watch::Sender<bool>,
}

impl Watching {
    /// Of these answers.
    pub(crate) fn new(answers: WatchedAnswers, registry: Registry, answering: Arc<AnswerThreads>) -> Self {
        let (stats, fenced) = (watch::Sender::default(), watch::Sender::default());
        let (turn, stats_read) = (Mutex::default(), Mutex::default());
        Self { answers, registry, answering, turn, stats, stats_read, fenced }
    }

    /// The last event of the ledger, now and later; empty before there is one.
    pub(crate) fn stats(&self) -> watch::Receiver<Bytes> {
        self.stats.subscribe()
    }

    /// Whether this replica may not answer, now and later.
    pub(crate) fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.subscribe()
    }

    /// Has [`Self::stats`] hold the ledger as it is, unless the queue does not tell it. Of all that ask while it is being read, the
    /// next reading serves all, also if it fails.
    pub(crate) async fn refresh_stats(&self) {
        let asked_at = Instant::now();
        let mut read_at = self.stats_read.lock().await;
        if read_at.is_some_and(|at| at >= asked_at) {
            return;
        }
        *read_at = Some(Instant::now());
        if let Some(stats) = self.read_stats().await {
            self.stats.send_if_modified(|last| {
                *last != stats && {
                    *last = stats;
                    true
                }
            });
        }
    }

    async fn read_stats(&self) -> Option<Bytes> {
        match timeout(STATS_TIMEOUT, self.registry.ledger()).await {
            Ok(Ok(ledger)) => Some(event("stats", None, &Stats::new(&ledger, self.registry.index.snapshot().passages))),
            // The watch of the backends shows that.
            Ok(Err(error)) => {
                debug!(%error, "the ledger cannot be read for those who follow it");
                None
            }
            Err(_) => None,
        }
    }

    /// Brings a watched answer up to date; `false` if that failed, which is logged.
    pub(crate) async fn refresh(&self, answer: &Arc<WatchedAnswer>) -> bool {
        // However many streams begin at once: threads that wait for one another would answer nobody.
        let _turn = self.turn.lock().await;
        if !answer.is_behind() {
            return true;
        }
        let answer = Arc::clone(answer);
        match self.answering.run(move || answer.refresh()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                error!(%error, "a watched question cannot be answered");
                false
            }
            // Its hook has logged where and why.
            Err(AnswerPanicked) => false,
        }
    }

    /// Keeps all of it up to date until it is stopped.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = join3(self.keep_answers(), self.keep_stats(), self.keep_fenced()) => {}
        }
    }

    async fn keep_answers(&self) -> Infallible {
        let mut rounds = Rounds::new(self.registry.index.generations());
        loop {
            rounds.next().await;
            for answer in self.answers.behind() {
                self.refresh(&answer).await;
            }
        }
    }

    async fn keep_stats(&self) -> Infallible {
        let mut ticks = ticks(STATS_INTERVAL);
        loop {
            ticks.tick().await;
            if self.stats.receiver_count() > 0 {
                self.refresh_stats().await;
            }
        }
    }

    /// Nothing tells a replica that it is fenced: that comes with time.
    async fn keep_fenced(&self) -> Infallible {
        let mut checks = ticks(CHECK_INTERVAL);
        loop {
            checks.tick().await;
            let is_fenced = self.registry.follower.fence().is_fenced();
            self.fenced.send_if_modified(|fenced| std::mem::replace(fenced, is_fenced) != is_fenced);
        }
    }
}

/// When something is done for the next state of the index. Under a steady feed there is a new one at once: half of one processor is
/// enough for following it.
struct Rounds {
    generations: watch::Receiver<u64>,
    checks: Interval,
    /// When the last one began.
    began: Option<Instant>,
}

impl Rounds {
    fn new(generations: watch::Receiver<u64>) -> Self {
        Self { generations, checks: ticks(CHECK_INTERVAL), began: None }
    }

    /// Waits for the next one, after a pause as long as the last has taken. One comes now and then also without a new state.
    async fn next(&mut self) {
        if let Some(began) = self.began {
            sleep(began.elapsed().min(LONGEST_PAUSE)).await;
        }
        tokio::select! {
            // Its sender lives as long as the index.
            _ = self.generations.changed() => {}
            _ = self.checks.tick() => {}
        }
        self.began = Some(Instant::now());
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many there are in a minute, each so long, while there is always a new state.
    async fn rounds_in_a_minute(takes: Duration) -> u128 {
        let states = watch::Sender::new(0);
        let (mut rounds, mut count, began) = (Rounds::new(states.subscribe()), 0, Instant::now());
        while began.elapsed() < Duration::from_secs(60) {
            rounds.next().await;
            count += 1;
            sleep(takes).await;
            states.send_modify(|state| *state += 1);
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn following_an_index_that_always_changes_takes_half_of_the_time_and_waits_no_longer_than_it_has_to() {
        for takes in [Duration::from_millis(20), Duration::from_millis(50), LONGEST_PAUSE] {
            let expected = 60_000 / (2 * takes.as_millis());
            let rounds = rounds_in_a_minute(takes).await;
            assert!(rounds.abs_diff(expected) <= 1, "{takes:?}: {rounds}");
        }
        let rounds = rounds_in_a_minute(Duration::from_secs(1)).await;
        assert!(rounds.abs_diff(48) <= 1, "{rounds}");
    }
}
