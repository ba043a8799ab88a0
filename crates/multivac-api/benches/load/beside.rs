//! Feeding beside what is measured, so many data a second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::exchange::{LeanConnection, none_begun};
use super::{Args, Data, Measured, data};

/// How long it feeds before anything is measured, so that what is measured is the steady state.
const LEAD: Duration = Duration::from_secs(2);

/// Of its own, however few ask.
const CONNECTIONS: usize = 64;

/// Feeds in a thread of its own until it is stopped.
pub(super) struct Beside {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Measured>>,
}

impl Beside {
    /// Begins, and returns when it has been feeding for a while.
    pub(super) async fn start(args: &Args, rate: u32) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (target, data) = (args.target.clone(), data(args));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let feeding = feed(target, data, rate, Arc::clone(&stopped));
        let thread = std::thread::spawn(move || runtime.block_on(feeding));
        sleep(LEAD).await;
        Ok(Self { stopped, thread })
    }

    /// Ends it, and says how it went.
    pub(super) fn stop(self) -> io::Result<Measured> {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the feeding beside has panicked"))?
    }
}

async fn feed(target: String, data: Data, rate: u32, stopped: Arc<AtomicBool>) -> io::Result<Measured> {
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (next, stopped, mut connection) =
            (Arc::clone(&next), Arc::clone(&stopped), LeanConnection::open(&target).await?);
        running.spawn(async move {
            let (mut latencies, mut not_200) = (Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let datum = data.request(i);
                sleep_until((started + Duration::from_secs_f64(i as f64 / f64::from(rate))).into()).await;
                let sent = Instant::now();
                let (status, _) = connection.exchange(&datum).await?;
                latencies.push(sent.elapsed());
                not_200 += usize::from(status != 200);
            }
            io::Result::Ok((latencies, not_200))
        });
    }
    let (mut latencies, mut not_200) = (Vec::new(), 0);
    let all = async {
        while let Some(done) = running.join_next().await {
            let (its_latencies, its_not_200) = done.map_err(io::Error::other)??;
            latencies.extend(its_latencies);
            not_200 += its_not_200;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        done = all => done?,
        () = none_begun(&next) => return Err(io::Error::new(io::ErrorKind::TimedOut, "replies to what is fed beside do not come any more")),
    }
    let (what, count) = (format!("  fed beside it, {rate} a second wanted"), latencies.len() - not_200);
    Ok(Measured { what, count, took: started.elapsed(), latencies, not_200 })
}
