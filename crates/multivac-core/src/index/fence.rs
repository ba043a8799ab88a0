//! Whether a replica may answer: only while it knows of every retraction that it is believed to know of.
//!
//! Whoever retracts waits until each replica has announced that it has passed the tombstone, and gives up waiting for one
//! that it has seen nothing new of for [`REPLICA_SILENT`](crate::store::REPLICA_SILENT). So a replica must not answer any
//! more by then, whatever keeps it from announcing: its network, its store, its processor, or that it is suspended. No
//! other can tell it to stop; it has to know by itself, by a clock of its own, at the moment of answering. That is what this
//! module keeps:
//!
//! 1. An announcement that succeeded lets the replica answer until [`REPLICA_ALIVE`] after it *began*: when it was carried
//!    out in between, only the store knows.
//! 2. If it succeeded later than that, others may have given up waiting in the meantime. Then the replica is fenced until
//!    it has passed the position that the store had after the announcement: by then all that was retracted without it is
//!    at that position or before it, and what is retracted from now on waits for this replica.
//!
//! A replica begins fenced, in the same way. As long as its index has never held anything there is nothing to fence.

use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::runtime::clock::since_boot;
use crate::store::{Position, REPLICA_ALIVE};

/// See the [module](self).
pub struct Fence {
    /// Whether other processes may retract from the same store. Where none can, there is nobody who could be misled.
    is_shared: bool,
    state: watch::Sender<State>,
    /// Wakes the announcer: the position has moved, and somebody may wait for that.
    urgent: Notify,
}

/// Times are since the machine was started.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Until when the last announcement holds.
    valid_until: Duration,
    /// The position from which on the replica may answer; not known until the store was asked after an announcement.
    goal: Option<Position>,
    /// What was retracted up to here is not in the index.
    passed: Position,
    /// Whether the index may hold anything.
    is_filled: bool,
    /// Goes up by one whenever an announcement came too late.
    gaps: u64,
}

/// That the replica could answer at one moment; see [`Fence::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(u64);

impl State {
    /// An announcement that began at `began` has succeeded by `now`. Whether the store has to be asked for a goal.
    fn announced(&mut self, began: Duration, now: Duration) -> bool {
        if now >= self.valid_until {
            self.goal = None;
            self.gaps += 1;
        }
        self.valid_until = self.valid_until.max(began + REPLICA_ALIVE);
        self.goal.is_none()
    }

    fn is_announced(&self, now: Duration) -> bool {
        now < self.valid_until && self.goal.is_some()
    }

    fn is_fenced(&self, now: Duration) -> bool {
        let may_answer = now < self.valid_until && self.goal.is_some_and(|goal| self.passed >= goal);
        self.is_filled && !may_answer
    }
}

impl Fence {
    pub(super) fn new(is_shared: bool) -> Self {
        Self { is_shared, state: watch::Sender::default(), urgent: Notify::new() }
    }

    /// Whether the replica may not answer from its index, at this moment.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.enter().is_none()
    }

    /// To be called before an answer is worked out; `None` if the replica may not answer. Before the answer is sent,
    /// [`Self::still_holds`] has to be asked: the process may have been suspended in between.
    #[must_use]
    pub fn enter(&self) -> Option<Entry> {
        let state = self.state.borrow();
        (!self.is_shared || !state.is_fenced(since_boot())).then_some(Entry(state.gaps))
    }

    /// Whether the replica could answer all the time since that moment: what it read of its index then may be shown.
    #[must_use]
    pub fn still_holds(&self, entry: Entry) -> bool {
        !self.is_shared || self.enter() == Some(entry)
    }

    /// What is to be announced: no datum that was retracted up to here is in the index.
    pub(super) fn passed(&self) -> Position {
        self.state.borrow().passed
    }

    /// Notes how far the index has come; `urgent` if others may wait for that.
    pub(super) fn pass(&self, position: Position, urgent: bool) {
        self.state.send_modify(|state| state.passed = position);
        if urgent {
            self.urgent.notify_one();
        }
    }

    /// Waits until the position is to be announced at once.
    pub(super) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Notes an announcement that began at this time (since the machine was started) and has succeeded. Whether a
    /// [goal](Self::aim_at) has to be fetched from the store.
    pub(super) fn announced(&self, began: Duration) -> bool {
        let mut needs_goal = false;
        self.state.send_modify(|state| needs_goal = state.announced(began, since_boot()));
        self.is_shared && needs_goal
    }

    /// Notes the position that the store had after an announcement had succeeded.
    pub(super) fn aim_at(&self, goal: Position) {
        self.state.send_modify(|state| state.goal = Some(goal));
    }

    /// Waits until retractions wait for this replica, and those that did not are at a known position or before it.
    pub(super) async fn until_announced(&self) {
        if self.is_shared {
            let announced = |state: &State| state.is_announced(since_boot());
            // Its sender lives as long as `self`.
            let _ = self.state.subscribe().wait_for(announced).await;
        }
    }

    /// Notes that the index is about to be filled.
    pub(super) fn fill(&self) {
        self.state.send_modify(|state| state.is_filled = true);
    }

    /// Fences the replica for good: it is about to be signed off.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| *state = State { valid_until: Duration::ZERO, is_filled: true, ..*state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Announced at 100 s, and caught up.
    fn open() -> State {
        let mut state = State { is_filled: true, passed: Position(7), ..State::default() };
        assert!(state.is_fenced(seconds(100)), "it begins fenced");
        assert!(state.announced(seconds(100), seconds(101)));
        assert!(state.is_fenced(seconds(101)), "it does not know what was retracted before");
        state.goal = Some(Position(7));
        assert!(!state.is_fenced(seconds(101)));
        state
    }

    #[test]
    fn the_time_counts_from_where_the_announcement_began() {
        let state = open();
        assert!(!state.is_fenced(seconds(105) - Duration::from_millis(1)));
        assert!(state.is_fenced(seconds(105)));
    }

    #[test]
    fn announced_in_time_it_needs_no_goal() {
        let mut state = open();
        let gaps = state.gaps;
        assert!(!state.announced(seconds(103), seconds(104)));
        assert_eq!(state.gaps, gaps);
        assert!(!state.is_fenced(seconds(107)));
        assert!(state.is_fenced(seconds(108)));
    }

    #[test]
    fn announced_too_late_it_has_to_pass_what_the_store_has_by_then() {
        let mut state = open();
        let gaps = state.gaps;
        // Begun in time, but when it was known to be done others might have given up waiting.
        assert!(state.announced(seconds(104), seconds(106)));
        assert!(state.is_fenced(seconds(106)));
        state.goal = Some(Position(9));
        state.passed = Position(8);
        assert!(state.is_fenced(seconds(106)));
        state.passed = Position(9);
        assert!(!state.is_fenced(seconds(106)));
        assert_ne!(state.gaps, gaps, "what was read of the index before the gap must not be shown");
    }

    #[test]
    fn an_announcement_that_was_overtaken_shortens_nothing() {
        let mut state = open();
        state.announced(seconds(103), seconds(103));
        state.announced(seconds(102), seconds(104));
        assert!(!state.is_fenced(seconds(107)));
    }

    #[test]
    fn an_index_that_was_never_filled_has_nothing_to_fence() {
        assert!(!State::default().is_fenced(seconds(100)));
    }

    #[test]
    fn a_store_that_no_other_process_uses_fences_nothing() {
        let fence = Fence::new(false);
        fence.fill();
        assert!(!fence.is_fenced());
        let fence = Fence::new(true);
        fence.fill();
        assert!(fence.is_fenced());
    }
}
