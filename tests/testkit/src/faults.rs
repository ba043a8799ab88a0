//! Faults at random, for minutes: what is injected and when is a plan, made by a seed alone before anything runs, so that
//! the same seed tries the same again.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

use crate::system::{RedisNodes, System};

/// Who is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A worker, by its number.
    Worker(usize),
    /// An api replica, by its number.
    Api(usize),
    /// Redis; in a Cluster the master of a third of the slots, whichever node that is at the time.
    Redis(usize),
    /// MongoDB's primary at the time.
    Primary,
}

/// Whose disk is filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// The one with Redis's append-only file.
    Redis,
    /// The one with the indexes of the api replicas.
    Index,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again later.
    Kill(Target),
    /// SIGTERM, and started again later.
    Stop(Target),
    /// SIGSTOP, and SIGCONT later: as if the network were cut, or the machine suspended.
    Pause(Target),
    /// MongoDB's primary hands over to another member.
    StepDown,
    /// MongoDB's primary takes no writes (`fsyncLock`): it stays the primary, and calls hang.
    Hang,
    /// No byte is left on a disk.
    Full(Disk),
    /// The clock of a process is set by so many seconds, and back later.
    Clock(Target, i64),
}

/// One fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How long nothing happens before.
    pub after: Duration,
    /// What then happens.
    pub fault: Fault,
    /// For how long.
    pub lasts: Duration,
}

/// The kinds of faults, as they are named on the command line. `poison` is no step of a plan: clients feed it.
pub const KINDS: [&str; 8] = ["kill", "stop", "pause", "step-down", "hang", "full-disk", "clock", "poison"];

/// The longest that most faults last.
const USUAL_MS: u64 = 2_000;

/// The longest that an api replica is suspended or MongoDB hangs: longer than a replica may answer without having heard
/// from the store.
const LONG_MS: u64 = 9_000;

/// What is tried for `time`, of these kinds, on so many workers, api replicas and Redis masters. It depends on nothing else.
pub fn plan(seed: u64, time: Duration, kinds: &[String], (workers, apis, masters): (usize, usize, usize)) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let (mut steps, mut planned) = (Vec::new(), Duration::ZERO);
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| *kind != "poison").collect();
    assert!(kinds.iter().all(|kind| KINDS.contains(kind)), "expected some of {KINDS:?}, not {kinds:?}");
    while planned < time && !kinds.is_empty() {
        let program = if rng.bool() { Target::Worker(rng.usize(..workers)) } else { Target::Api(rng.usize(..apis)) };
        let any = match rng.u8(..4) {
            0 | 1 => program,
            2 => Target::Redis(rng.usize(..masters)),
            _ => Target::Primary,
        };
        // Half of the faults are kills, where those are wanted.
        let kind = if kinds.contains(&"kill") && rng.bool() { "kill" } else { kinds[rng.usize(..kinds.len())] };
        let (fault, longest) = match kind {
            "kill" => (Fault::Kill(any), USUAL_MS),
            "stop" => (Fault::Stop(program), USUAL_MS),
            "pause" => (Fault::Pause(any), if matches!(any, Target::Api(_)) { LONG_MS } else { USUAL_MS }),
            "step-down" => (Fault::StepDown, 1),
            "hang" => (Fault::Hang, LONG_MS),
            "full-disk" => (Fault::Full(if rng.bool() { Disk::Redis } else { Disk::Index }), 2 * USUAL_MS),
            _ => {
                let whose = if any == Target::Primary { Target::Redis(0) } else { any };
                (Fault::Clock(whose, if rng.bool() { 3_600 } else { -3_600 }), 2 * USUAL_MS)
            }
        };
        let step = Step {
            after: Duration::from_millis(rng.u64(500..3_000)),
            fault,
            lasts: Duration::from_millis(rng.u64(..longest)),
        };
        planned += step.after + step.lasts;
        steps.push(step);
    }
    steps
}

/// Carries a step out, and returns when it is over: what happened, and whether that was right.
pub async fn inject(system: &mut System, step: Step) -> (String, bool) {
    let lasts = step.lasts;
    let mut right = true;
    let done = match step.fault {
        Fault::Kill(Target::Redis(master)) => {
            let node = match &system.redis {
                RedisNodes::Single(_) => 0,
                // The promise is about one lost node at a time: its replica has to be there.
                RedisNodes::Cluster(cluster) => cluster.until_replicated(master).await,
            };
            system.redis.node(node).kill();
            if let RedisNodes::Cluster(cluster) = &system.redis {
                cluster.until_replaced(master, node).await;
            }
            sleep(lasts).await;
            system.redis.node(node).service.start_again();
            format!("{} is killed", system.redis.node(node).service.name)
        }
        Fault::Kill(target) => {
            let node = system.member(target).await;
            let service = system.service(target, node);
            service.kill();
            sleep(lasts).await;
            service.start_again();
            format!("{} is killed", service.name)
        }
        Fault::Stop(target) => {
            let service = system.service(target, 0);
            let code = service.stop();
            right = code == Some(0);
            sleep(lasts).await;
            service.start_again();
            let ends = code.map_or("does not end by itself".to_owned(), |code| format!("ends with {code}"));
            format!("{} is stopped, and {ends},", service.name)
        }
        Fault::Pause(target) => {
            let node = system.member(target).await;
            let service = system.service(target, node);
            service.pause();
            sleep(lasts).await;
            service.resume();
            format!("{} is paused", service.name)
        }
        Fault::StepDown => {
            let primary = system.replica_set().primary().await;
            let did = system.replica_set().step_down(primary).await;
            let name = &system.replica_set().members[primary].service.name;
            format!("{name} {}", if did { "steps down" } else { "will not step down" })
        }
        Fault::Hang => {
            let primary = system.replica_set().primary().await;
            let member = &system.replica_set().members[primary];
            let did = member.lock_writes().await;
            sleep(lasts).await;
            member.unlock_writes().await;
            format!("{} {}", member.service.name, if did { "takes no writes" } else { "cannot be locked" })
        }
        Fault::Full(disk) => match system.disk(disk) {
            None => format!("{disk:?} has no disk of its own"),
            Some(small) => {
                small.fill();
                sleep(lasts).await;
                small.free();
                if disk == Disk::Redis && system.redis.node(0).service.has_ended() {
                    // With appendfsync always it ends rather than lose what it confirms.
                    system.redis.node(0).service.start_again();
                }
                format!("the disk of {disk:?} is full")
            }
        },
        Fault::Clock(target, by) => match system.clock(target) {
            None => format!("{target:?} has no clock of its own"),
            Some(clock) => {
                clock.set_ahead(by);
                sleep(lasts).await;
                clock.set_ahead(0);
                format!("the clock of {target:?} is set by {by} s, and back,")
            }
        },
    };
    (format!("{done} for {:.2} s", lasts.as_secs_f64()), right)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.2} s {:?} for {:.2} s", self.after.as_secs_f64(), self.fault, self.lasts.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_seed_another() {
        let make = |seed| plan(seed, Duration::from_secs(600), &kinds(&KINDS), (3, 2, 1));
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn every_kind_of_fault_comes_and_none_that_was_not_asked_for() {
        let all = plan(1, Duration::from_secs(7_200), &kinds(&KINDS), (3, 2, 3));
        let comes = |wanted: fn(&Fault) -> bool| all.iter().any(|step| wanted(&step.fault));
        assert!(comes(|fault| matches!(fault, Fault::Kill(Target::Redis(2)))));
        assert!(comes(|fault| matches!(fault, Fault::Stop(Target::Worker(_)))));
        assert!(comes(|fault| matches!(fault, Fault::Pause(Target::Primary))));
        assert!(comes(|fault| matches!(fault, Fault::StepDown)) && comes(|fault| matches!(fault, Fault::Hang)));
        assert!(comes(|fault| matches!(fault, Fault::Full(Disk::Redis))));
        assert!(comes(|fault| matches!(fault, Fault::Clock(Target::Api(_), -3_600))));
        let suspended = |step: &Step| matches!(step.fault, Fault::Pause(Target::Api(_))) && step.lasts.as_secs() > 5;
        assert!(all.iter().any(suspended), "no replica is suspended for longer than it may answer unheard");
        let hangs = plan(1, Duration::from_secs(600), &kinds(&["hang", "poison"]), (3, 2, 1));
        assert!(hangs.iter().all(|step| step.fault == Fault::Hang) && !hangs.is_empty());
    }
}
