//! `status`: the ledger, and what waits.

use std::io::Write;

use multivac_core::adapters::Backends;
use serde_json::json;

use super::{CommandError, Output};

pub(super) async fn status(
    out: &mut dyn Write,
    output: Output,
    backends: &Backends,
    warnings: &[String],
) -> Result<(), CommandError> {
    let ledger = backends.queue.ledger().await?;
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
        let status = json!({ "ledger": counts, "balances": ledger.balances(), "warnings": warnings });
        writeln!(out, "{status}")?;
        return Ok(());
    }
    for (name, count) in counts {
        writeln!(out, "{name:<12}{count:>12}")?;
    }
    if !ledger.balances() {
        writeln!(out, "the ledger does not balance: accepted is not the sum of the others")?;
    }
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}
