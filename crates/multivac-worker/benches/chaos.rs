//! Kills, stops and silences the full system's processes at random under load, for minutes, and counts what is there in the end; run by
//! `scripts/chaos.sh`. The same code as in `tests/worker`, which does it once, in turn and in seconds.
//!
//! Prints what was killed and when, then what came of it. The status is 1 when an id that got a 200 is not there, or
//! anything else is wrong.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // The lines are its output; what fails here fails the run.
#![allow(dead_code)] // What the tests alone use of the modules that they share with this.

#[path = "../tests/worker/load.rs"]
mod load;
#[path = "../tests/worker/process.rs"]
mod process;
#[path = "../tests/worker/system.rs"]
mod system;
#[path = "../tests/worker/take_over.rs"]
mod take_over;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tokio::time::sleep;

use load::{Load, Random};
use system::{Plan, System};

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
    /// Kills workers, api replicas, Redis and MongoDB's primary at random; of three, one is stopped (SIGTERM), falls silent
    /// (SIGSTOP) or steps down instead.
    Random {
        #[arg(long, default_value_t = 120)]
        seconds: u64,
        /// The same seed kills and feeds in the same order.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 3)]
        partitions: u16,
        /// Redis's setting; with everysec what Redis said in its last seconds may be lost with it.
        #[arg(long, default_value = "always")]
        appendfsync: String,
        /// Clients that feed, one request after the other each.
        #[arg(long, default_value_t = 16)]
        clients: u64,
        /// Who may be killed.
        #[arg(long, default_values = ["worker", "api", "redis", "mongo"], value_delimiter = ',')]
        victims: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let right = match Args::parse().mode {
        Mode::TakeOver { count } => take_over(count).await,
        Mode::Random { seconds, seed, partitions, appendfsync, clients, victims } => {
            let plan = Plan { own_mongo: true, partitions, appendfsync, lease: "5s", ..Plan::default() };
            random(Duration::from_secs(seconds), seed, clients, &victims, plan).await
        }
    };
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn take_over(count: u64) -> bool {
    let Some(seen) = take_over::take_over("30s", count).await else { return false };
    println!("a worker was killed that held {} jobs, with a lease of 30 s", seen.held);
    println!("others had all of them after {:.1} s (35 s at most)", seen.taken_over.as_secs_f64());
    println!("all {count} data were learned after {:.1} s (45 s at most)\n", seen.learned.as_secs_f64());
    print!("{}", seen.report);
    seen.report.wrong.is_empty() && seen.taken_over.as_secs() < 35 && seen.learned.as_secs() < 45
}

async fn random(time: Duration, seed: u64, clients: u64, victims: &[String], plan: Plan) -> bool {
    println!("seed {seed}, appendfsync {}, {} partitions", plan.appendfsync, plan.partitions);
    let Some(mut system) = System::start(plan).await else { return false };
    let load = Load::start(&system, clients, Duration::from_millis(5), seed);
    load.until_told_more(100).await;
    let (started, mut random) = (Instant::now(), Random(seed));
    let mut killed = vec![0; victims.len()];
    // Of those who were to end by themselves.
    let mut wrong_ends = 0;
    let mut spared = [0; 3];
    while started.elapsed() < time {
        sleep(Duration::from_millis(500 + random.below(2_500))).await;
        let choice = random.below(victims.len() as u64) as usize;
        let (which, down) = (random.below(6) as usize, Duration::from_millis(random.below(2_000)));
        // One of three is not killed.
        let fate = random.below(6);
        let primary = if victims[choice] == "mongo" { system.primary().await } else { 0 };
        if victims[choice] == "mongo" && fate == 0 {
            let done = if system.step_down(primary).await { "steps down" } else { "will not step down" };
            spared[2] += 1;
            say(&started, &format!("{} {done}", system.mongo[primary].name), &load);
            continue;
        }
        let program = match victims[choice].as_str() {
            "worker" => {
                let count = system.workers.len();
                &mut system.workers[which % count]
            }
            "api" => {
                let count = system.apis.len();
                &mut system.apis[which % count]
            }
            "redis" => &mut system.redis,
            "mongo" => &mut system.mongo[primary],
            other => panic!("{other} cannot be killed: expected worker, api, redis or mongo"),
        };
        let seconds = down.as_secs_f64();
        match (victims[choice].as_str(), fate) {
            ("worker" | "api", 0 | 1) => {
                let code = program.stop();
                wrong_ends += u32::from(code != Some(0));
                spared[0] += 1;
                let done = code.map_or("and does not end by itself".to_owned(), |code| format!("and ends with {code}"));
                say(&started, &format!("{} is stopped, {done}, for {seconds:.2} s", program.name), &load);
                sleep(down).await;
                program.again();
            }
            (_, 0 | 1) => {
                program.freeze();
                spared[1] += 1;
                say(&started, &format!("{} is silent for {seconds:.2} s", program.name), &load);
                sleep(down).await;
                program.thaw();
            }
            _ => {
                program.kill();
                killed[choice] += 1;
                say(&started, &format!("{} is killed, for {seconds:.2} s", program.name), &load);
                sleep(down).await;
                program.again();
            }
        }
    }
    let stopped = Instant::now();
    let report = load.finish(&system).await;
    let kills: Vec<String> = victims.iter().zip(killed).map(|(who, times)| format!("{who} {times}")).collect();
    println!("\nkilled                       {}", kills.join(", "));
    let [stops, silences, step_downs] = spared;
    println!("stopped, silent, stepped down {stops}, {silences}, {step_downs}; ended wrongly: {wrong_ends}");
    println!("all learned after            {:.1} s", stopped.elapsed().as_secs_f64());
    print!("{report}");
    if !report.wrong.is_empty() {
        println!("{}", system.said());
    }
    system.clean_up().await;
    report.wrong.is_empty() && wrong_ends == 0
}

fn say(started: &Instant, what: &str, load: &Load) {
    println!("{:7.2} s  {what}; {} ids so far", started.elapsed().as_secs_f64(), load.told());
}
