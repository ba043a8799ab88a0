//! Streams that watch one question, and how soon a change of its answer comes to the first and the last of them.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use multivac_testkit::http::{Connection, feed_form, get};
use multivac_testkit::text::new_word;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Args, Measured, ready, unexpected};

/// How many streams are being opened at once.
const OPENING: usize = 200;

/// Opens the streams, measures, prints the rows, and keeps the streams open. Whether all of it went well.
pub(super) async fn watch(args: &Args, streams: usize, rounds: usize, hold: Duration) -> io::Result<bool> {
    ready(args).await?;
    let within = Duration::from_secs(args.within);
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let word = new_word(run, 0);
    let request = get(&format!("/multivac/events?question=Where+does+the+beacon+{word}+stand%3F"));
    // Whenever an answer has come to one of them.
    let (told, mut arrivals) = mpsc::unbounded_channel();
    let started = Instant::now();
    for n in 0..streams {
        let mut connection = Connection::open(&args.target).await?;
        connection.send(&request).await?;
        tokio::spawn(read(connection, told.clone()));
        if n >= OPENING {
            arrival(&mut arrivals, within).await?;
        }
    }
    for _ in 0..streams.min(OPENING) {
        arrival(&mut arrivals, within).await?;
    }
    let opened = Measured::of("open an event stream", streams, started.elapsed());
    println!("{}", opened.row());

    let mut writing = Connection::open(&args.target).await?;
    let (mut first, mut median, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let started = Instant::now();
    for _ in 0..rounds {
        let datum = feed_form(&format!("The beacon {word} stands on the northern cliff above the harbour."));
        let reply = writing.exchange(&datum).await?;
        let accepted = Instant::now();
        if reply.status != 200 {
            return Err(unexpected("watch", &reply));
        }
        let mut came = Vec::with_capacity(streams);
        while came.len() < streams {
            // The client may have read the first before it has read that the datum was accepted.
            came.push(arrival(&mut arrivals, within).await?.saturating_duration_since(accepted));
        }
        came.sort_unstable();
        first.push(came[0]);
        median.push(came[streams / 2]);
        last.push(came[streams - 1]);
        let id = reply.json()?["id"].as_str().unwrap_or_default().to_owned();
        let retract = format!("DELETE /multivac/data/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let reply = writing.exchange(retract).await?;
        if reply.status != 204 {
            return Err(unexpected("watch", &reply));
        }
        for _ in 0..streams {
            arrival(&mut arrivals, within).await?;
        }
        // Back to rest.
        sleep(Duration::from_millis(200)).await;
    }
    let took = started.elapsed();
    for (what, latencies) in [
        ("accepted, to the first that watches", first),
        ("accepted, to half of them", median),
        ("accepted, to the last of them", last),
    ] {
        println!("{}", Measured { what: what.to_owned(), count: rounds, took, latencies, not_200: 0 }.row());
    }
    sleep(hold).await;
    // None of them may have ended meanwhile.
    Ok(told.strong_count() == streams + 1)
}

async fn arrival(arrivals: &mut mpsc::UnboundedReceiver<Instant>, within: Duration) -> io::Result<Instant> {
    let arrived = timeout(within, arrivals.recv()).await?;
    arrived.ok_or_else(|| io::Error::other("the streams have ended"))
}

/// Reads a stream to its end, and tells of each answer in it.
async fn read(mut connection: Connection, told: mpsc::UnboundedSender<Instant>) {
    const NAME: &[u8] = b"event: answer\n";
    let (mut buffer, mut matched) = ([0; 2048], 0);
    while let Ok(count @ 1..) = connection.reader.read(&mut buffer).await {
        for byte in &buffer[..count] {
            // Nothing else in a stream begins like it, so no match begins within another.
            matched = if *byte == NAME[matched] { matched + 1 } else { usize::from(*byte == NAME[0]) };
            if matched == NAME.len() {
                matched = 0;
                if told.send(Instant::now()).is_err() {
                    return;
                }
            }
        }
    }
}
