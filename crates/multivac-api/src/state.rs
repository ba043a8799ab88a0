//! What the handlers share.

use std::sync::Arc;

use multivac_core::accept::Acceptor;
use multivac_core::adapters::Warnings;
use multivac_core::answer::StandingAnswer;
use multivac_core::status::Registry;
use tokio_util::sync::CancellationToken;

use crate::drain::Connections;

/// What every route may use.
pub(crate) struct State {
    /// Takes data in.
    pub(crate) acceptor: Acceptor,
    /// Knows where data stand.
    pub(crate) registry: Registry,
    /// The standing question.
    pub(crate) standing: StandingAnswer,
    /// The largest datum, in bytes.
    pub(crate) max_datum_size: usize,
    /// The confidence below which there is no answer.
    pub(crate) min_confidence: f64,
    /// What the backends' check at the start said; not set before it.
    pub(crate) warnings: Warnings,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
    /// Who is connected.
    pub(crate) connections: Arc<Connections>,
}
