//! How long it takes until a datum can be answered with: one at a time, or one after the other without a pause.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use multivac_testkit::http::{Connection, ask, feed_form};
use multivac_testkit::text::new_word;
use tokio::time::sleep;

use super::{Args, Measured, unexpected};

/// Between two questions. tokio's timer counts whole milliseconds, which would blur what is measured, so this blocks the
/// thread: the client does nothing else meanwhile.
const POLL: Duration = Duration::from_micros(500);

/// It measures no longer than this, however many rounds are left, since the system may fall ever further behind what is fed
/// beside it.
const LONGEST: Duration = Duration::from_secs(60);

/// How long to let everything come to rest.
const REST: Duration = Duration::from_millis(50);

/// Feeds a datum, asks for it until the reply holds it, and so on; lets everything come to rest in between unless `chained`.
///
/// The times end when the reply has come, so the question's own time is part of them. They begin when the datum was sent,
/// and, in the second row, when its 200 had come.
pub(super) async fn latency(args: &Args, rounds: usize, chained: bool) -> io::Result<Vec<Measured>> {
    let mut connection = Connection::open(&args.target).await?;
    // A word that no run before this one has fed.
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let (mut since_sent, mut since_accepted) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    let started = Instant::now();
    for round in 0..rounds {
        if started.elapsed() > LONGEST {
            break;
        }
        let word = new_word(run, round);
        let datum = feed_form(&format!("The beacon {word} stands on the northern cliff above the harbour."));
        let question = ask(&format!("Where does the beacon {word} stand?"));
        let sent = Instant::now();
        let reply = connection.exchange(&datum).await?;
        let accepted = Instant::now();
        if reply.status != 200 {
            return Err(unexpected("latency", &reply));
        }
        loop {
            let reply = connection.exchange(&question).await?;
            if reply.status != 200 {
                return Err(unexpected("latency", &reply));
            }
            let answer = reply.json()?;
            if answer["answer"].as_str().is_some_and(|text| text.contains(&word)) {
                break;
            }
            if sent.elapsed() > Duration::from_secs(args.within) {
                return Err(io::Error::other(format!("not answered in {} s: {answer}", args.within)));
            }
            std::thread::sleep(POLL);
        }
        since_sent.push(sent.elapsed());
        since_accepted.push(accepted.elapsed());
        if !chained {
            sleep(REST).await;
        }
    }
    let took = started.elapsed();
    let (sent, accepted) = if chained {
        ("sent to answered, chained", "accepted to answered, chained")
    } else {
        ("sent to answered, alone", "accepted to answered, alone")
    };
    let row = |what: &str, latencies: Vec<_>| {
        let count = latencies.len();
        Measured { what: what.to_owned(), count, took, latencies, not_200: 0 }
    };
    Ok(vec![row(sent, since_sent), row(accepted, since_accepted)])
}
