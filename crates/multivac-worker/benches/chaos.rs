//! Kills, stops and pauses the full system's processes at random under load, for minutes, and counts what is there in the
//! end; run by `scripts/chaos.sh`. `tests/worker` does the same with the same code, each once, in seconds.
//!
//! Prints what was killed and when, then what came of it. The status is 1 when an id that got a 200 is not there, or
//! anything else is wrong.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // The lines are its output; what fails here fails the run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use fastrand::Rng;
use multivac_testkit::load::Load;
use multivac_testkit::system::{Plan, System};
use tokio::time::sleep;

/// The worker's program; the api's lies beside it.
const WORKER: &str = env!("CARGO_BIN_EXE_multivac-worker");

#[derive(Parser)]
struct Args {
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
    /// Kills workers, api replicas, Redis and MongoDB's primary at random; of three, one is stopped (SIGTERM), paused
    /// (SIGSTOP) or steps down instead.
    Random {
        #[arg(long, default_value_t = 120)]
        seconds: u64,
        /// The same seed kills and feeds in the same order.
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
        /// What may be killed.
        #[arg(long, default_values = ["worker", "api", "redis", "mongo"], value_delimiter = ',')]
        targets: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let right = match Args::parse().mode {
        Mode::TakeOver { count } => take_over(count).await,
        Mode::Random { seconds, seed, partitions, appendfsync, clients, targets } => {
            let plan = Plan { own_mongo: true, partitions, appendfsync, lease: "5s", ..Plan::new(WORKER) };
            random(Duration::from_secs(seconds), seed, clients, &targets, plan).await
        }
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

async fn random(time: Duration, seed: u64, clients: u64, targets: &[String], plan: Plan) -> bool {
    println!("seed {seed}, appendfsync {}, {} partitions", plan.appendfsync, plan.partitions);
    let Some(mut system) = System::start(plan).await else { return false };
    let load = Load::start(&system, clients, Duration::from_millis(5), seed);
    load.until_confirmed(100).await;
    let (started, mut rng) = (Instant::now(), Rng::with_seed(seed));
    let mut killed = vec![0; targets.len()];
    // Processes that were stopped by SIGTERM and did not end with status 0.
    let mut wrong_ends = 0;
    let mut not_killed = [0; 3];
    while started.elapsed() < time {
        sleep(Duration::from_millis(rng.u64(500..3_000))).await;
        let choice = rng.usize(..targets.len());
        let (which, down) = (rng.usize(..6), Duration::from_millis(rng.u64(..2_000)));
        // One of three is not killed.
        let fault = rng.u8(..6);
        let primary = if targets[choice] == "mongo" { system.replica_set().primary().await } else { 0 };
        if targets[choice] == "mongo" && fault == 0 {
            let done = if system.replica_set().step_down(primary).await { "steps down" } else { "will not step down" };
            not_killed[2] += 1;
            print_event(&started, &format!("{} {done}", system.replica_set().members[primary].service.name), &load);
            continue;
        }
        let service = match targets[choice].as_str() {
            "worker" => {
                let count = system.workers.len();
                &mut system.workers[which % count]
            }
            "api" => {
                let count = system.apis.len();
                &mut system.apis[which % count]
            }
            "redis" => &mut system.redis.service,
            "mongo" => &mut system.replica_set().members[primary].service,
            other => panic!("{other} cannot be killed: expected worker, api, redis or mongo"),
        };
        let seconds = down.as_secs_f64();
        match (targets[choice].as_str(), fault) {
            ("worker" | "api", 0 | 1) => {
                let code = service.stop();
                wrong_ends += u32::from(code != Some(0));
                not_killed[0] += 1;
                let done = code.map_or("and does not end by itself".to_owned(), |code| format!("and ends with {code}"));
                print_event(&started, &format!("{} is stopped, {done}, for {seconds:.2} s", service.name), &load);
                sleep(down).await;
                service.start_again();
            }
            (_, 0 | 1) => {
                service.pause();
                not_killed[1] += 1;
                print_event(&started, &format!("{} is paused for {seconds:.2} s", service.name), &load);
                sleep(down).await;
                service.resume();
            }
            _ => {
                service.kill();
                killed[choice] += 1;
                print_event(&started, &format!("{} is killed, for {seconds:.2} s", service.name), &load);
                sleep(down).await;
                service.start_again();
            }
        }
    }
    let stopped = Instant::now();
    let report = load.finish(&system).await;
    let kills: Vec<String> = targets.iter().zip(killed).map(|(target, times)| format!("{target} {times}")).collect();
    println!("\nkilled                       {}", kills.join(", "));
    let [stops, pauses, step_downs] = not_killed;
    println!("stopped, paused, stepped down {stops}, {pauses}, {step_downs}; ended wrongly: {wrong_ends}");
    println!("all learned after            {:.1} s", stopped.elapsed().as_secs_f64());
    print!("{report}");
    if !report.wrong.is_empty() {
        println!("{}", system.log_tails());
    }
    system.clean_up().await;
    report.wrong.is_empty() && wrong_ends == 0
}

fn print_event(started: &Instant, what: &str, load: &Load) {
    println!("{:7.2} s  {what}; {} ids so far", started.elapsed().as_secs_f64(), load.confirmed());
}
