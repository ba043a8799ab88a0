//! Turns signals into one token, which is handed down to whatever has to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A token that is cancelled at the first SIGTERM or SIGINT; the second ends the process at once, with status 130.
///
/// # Errors
/// When signals cannot be listened for.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                info!(signal = name, "stopping");
                stopping.cancel();
            } else {
                // Not 0: what was under way is cut off. (Shells report 130 after Ctrl-C.)
                std::process::exit(130);
            }
        }
    });
    Ok(stop)
}
