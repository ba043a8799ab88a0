//! Injects faults into the full system under load, for minutes, and counts what is there in the end; run by
//! `scripts/chaos.sh`. `tests/worker` does the same with the same code, each once, in seconds.
//!
//! Prints each fault, then what came of it. The status is 1 when an id that got a 200 is not there, or anything else is
//! wrong.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // The lines are its output; what fails here fails the run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use multivac_testkit::faults::{self, KINDS};
use multivac_testkit::load::Load;
use multivac_testkit::system::{Plan, System};
use tokio::time::sleep;

/// The worker's program; the api's lies beside it.
const WORKER: &str = env!("CARGO_BIN_EXE_multivac-worker");

/// A round ends after so long, and what is there is counted: the clients remember all that they fed in it.
const LONGEST_ROUND: Duration = Duration::from_secs(600);

#[derive(Parser)]
struct Program {
    /// Given by `cargo bench` to every benchmark; means nothing here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Kills a worker that holds jobs, with the default lease of 30 s, and measures until others have learned them.
    TakeOver {
        /// How many data are fed before.
        #[arg(default_value_t = 50_000)]
        count: u64,
    },
    /// Faults at random, in rounds of ten minutes at most.
    Random(Random),
}

#[derive(Args)]
struct Random {
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// The same seed makes the same plan. The rounds after the first have the seeds after it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 3)]
    partitions: u16,
    /// Redis's setting; with everysec what Redis confirmed in its last seconds may be lost when it is killed.
    #[arg(long, default_value = "always")]
    appendfsync: String,
    /// Clients that feed, one request after the other each.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// A Redis Cluster with `--durability replicated`, which loses masters.
    #[arg(long)]
    cluster: bool,
    /// What may happen.
    #[arg(long, default_values = KINDS, value_delimiter = ',')]
    faults: Vec<String>,
    /// Only prints the plan.
    #[arg(long)]
    plan: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let right = match Program::parse().mode {
        Mode::TakeOver { count } => take_over(count).await,
        Mode::Random(random) => random.run().await,
    };
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn take_over(count: u64) -> bool {
    let Some(seen) = multivac_testkit::take_over::take_over(WORKER, "30s", count).await else { return false };
    println!("a worker was killed that held {} jobs, with a lease of 30 s", seen.held);
    println!("others had all of them after {:.1} s (35 s at most)", seen.taken_over.as_secs_f64());
    println!("all {count} data were learned after {:.1} s (45 s at most)\n", seen.learned.as_secs_f64());
    print!("{}", seen.report);
    seen.report.wrong.is_empty() && seen.taken_over.as_secs() < 35 && seen.learned.as_secs() < 45
}

impl Random {
    async fn run(&self) -> bool {
        let (mut left, mut seed, mut right) = (Duration::from_secs(self.seconds), self.seed, true);
        while !left.is_zero() {
            let time = left.min(LONGEST_ROUND);
            right &= self.round(time, seed).await;
            (left, seed) = (left - time, seed + 1);
        }
        right
    }

    fn wants(&self, kind: &str) -> bool {
        self.faults.iter().any(|wanted| wanted == kind)
    }

    async fn round(&self, time: Duration, seed: u64) -> bool {
        let plan = Plan {
            own_mongo: true,
            partitions: self.partitions,
            appendfsync: self.appendfsync.clone(),
            lease: "5s",
            cluster: self.cluster,
            clocks: self.wants("clock"),
            small_disks: self.wants("full-disk"),
            poison: self.wants("poison"),
            ..Plan::new(WORKER)
        };
        println!("seed {seed}, appendfsync {}, {} partitions", plan.appendfsync, plan.partitions);
        let masters = if self.cluster { 3 } else { 1 };
        let steps = faults::plan(seed, time, &self.faults, (plan.workers, plan.apis, masters));
        if self.plan {
            steps.iter().for_each(|step| println!("{step}"));
            return true;
        }
        let Some(mut system) = System::start(plan).await else { return false };
        let load = Load::start(&system, self.clients, Duration::from_millis(5), seed);
        load.until_confirmed(100).await;
        let (started, mut wrong_ends) = (Instant::now(), 0);
        for step in steps {
            sleep(step.after).await;
            let at = started.elapsed().as_secs_f64();
            let (done, right) = faults::inject(&mut system, step).await;
            wrong_ends += u32::from(!right);
            println!("{at:7.2} s  {done}; {} ids so far", load.confirmed());
        }
        let stopped = Instant::now();
        let report = load.finish(&system).await;
        println!("\nended wrongly                {wrong_ends}");
        println!("all learned after            {:.1} s", stopped.elapsed().as_secs_f64());
        println!("{report}");
        if !report.wrong.is_empty() {
            println!("{}", system.log_tails());
        }
        system.clean_up().await;
        // A round in which no retracted datum was ever seen in an answer has not tried retractions.
        report.wrong.is_empty() && wrong_ends == 0 && report.shown_before > 0
    }
}
