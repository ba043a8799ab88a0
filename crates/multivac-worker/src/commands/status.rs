//! `status`: the ledger, and what waits in each partition.

use std::io::Write;
use std::time::Duration;

use multivac_core::adapters::Backends;
use multivac_core::datum::Timestamp;
use serde_json::json;

use super::CommandError;
use crate::cli::Output;

pub(super) async fn status(
    out: &mut dyn Write,
    output: Output,
    backends: &Backends,
    warnings: &[String],
) -> Result<(), CommandError> {
    let ledger = backends.queue.ledger().await?;
    let partitions = backends.queue.partitions().await?;
    let counts = [
        ("accepted", ledger.accepted),
        ("queued", ledger.queued),
        ("processing", ledger.processing),
        ("learned", ledger.learned),
        ("retracted", ledger.retracted),
        ("dead", ledger.dead),
    ];
    if output.json {
        let counts: serde_json::Map<_, _> = counts.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect();
        let partitions = partitions.iter().map(|partition| {
            json!({
                "queued": partition.queued,
                "processing": partition.processing,
                "dead": partition.dead,
                "size_bytes": partition.size_bytes,
                "oldest_received_at": partition.oldest.map(|at| at.to_string()),
            })
        });
        let status = json!({
            "ledger": counts,
            "balances": ledger.balances(),
            "partitions": partitions.collect::<Vec<_>>(),
            "warnings": warnings,
        });
        writeln!(out, "{status}")?;
        return Ok(());
    }
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
