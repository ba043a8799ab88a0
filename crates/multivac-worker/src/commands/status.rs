//! `status`: the ledger, and what waits in each partition.

use std::io::Write;
use std::time::Duration;

use multivac_core::adapters::Backends;
use multivac_core::commands::{CommandError, Output, write_json};
use multivac_core::datum::Timestamp;
use multivac_core::queue::{Ledger, Partition};
use serde::Serialize;

/// `status --json`.
#[derive(Serialize)]
struct StatusReply<'a> {
    ledger: LedgerReply,
    balances: bool,
    partitions: Vec<PartitionReply>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct LedgerReply {
    accepted: u64,
    queued: u64,
    processing: u64,
    learned: u64,
    retracted: u64,
    dead: u64,
}

impl From<&Ledger> for LedgerReply {
    fn from(ledger: &Ledger) -> Self {
        let Ledger { accepted, queued, processing, learned, retracted, dead } = *ledger;
        Self { accepted, queued, processing, learned, retracted, dead }
    }
}

#[derive(Serialize)]
struct PartitionReply {
    queued: u64,
    processing: u64,
    dead: u64,
    size_bytes: u64,
    oldest_received_at: Option<String>,
}

impl From<&Partition> for PartitionReply {
    fn from(partition: &Partition) -> Self {
        Self {
            queued: partition.queued,
            processing: partition.processing,
            dead: partition.dead,
            size_bytes: partition.size_bytes,
            oldest_received_at: partition.oldest.map(|at| at.to_string()),
        }
    }
}

pub(super) async fn status(
    out: &mut dyn Write,
    output: Output,
    backends: &Backends,
    warnings: &[String],
) -> Result<(), CommandError> {
    let ledger = backends.queue.ledger().await?;
    let partitions = backends.queue.partitions().await?;
    if output.json {
        let partitions = partitions.iter().map(PartitionReply::from).collect();
        let reply =
            StatusReply { ledger: LedgerReply::from(&ledger), balances: ledger.balances(), partitions, warnings };
        return write_json(out, &reply);
    }
    let counts = [
        ("accepted", ledger.accepted),
        ("queued", ledger.queued),
        ("processing", ledger.processing),
        ("learned", ledger.learned),
        ("retracted", ledger.retracted),
        ("dead", ledger.dead),
    ];
    for (name, count) in counts {
        writeln!(out, "{name:<12}{count:>12}")?;
    }
    if !ledger.balances() {
        writeln!(out, "the ledger does not balance: accepted is not the sum of the others")?;
    }
    writeln!(out, "\npartition      queued  processing        dead  text, bytes  oldest")?;
    for (number, partition) in partitions.iter().enumerate() {
        let age = partition.oldest.map(|at| Duration::from_secs(Timestamp::now().since(at).as_secs()));
        let age = age.map_or_else(|| "-".to_owned(), |age| humantime::format_duration(age).to_string());
        let (queued, processing, dead) = (partition.queued, partition.processing, partition.dead);
        writeln!(out, "{number:<9}{queued:>12}{processing:>12}{dead:>12}{:>13}  {age}", partition.size_bytes)?;
    }
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}
