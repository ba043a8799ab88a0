//! How much text is under way: what a consumer may hold, and what it processes and stores at once.

use tokio::sync::OwnedSemaphorePermit;

use crate::queue::Lease;

/// The text that is processed and stored at once, of those jobs, in bytes: a part. One datum may be larger.
const PART_BYTES: usize = 2 << 20;

/// A size as the bound on text under way counts it.
pub(super) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

fn text_bytes(lease: &Lease) -> usize {
    lease.job.datum.as_str().len()
}

/// Returns the room that these jobs leave.
pub(super) fn keep_room_for(held: &mut OwnedSemaphorePermit, leases: &[Lease]) {
    let needed = kib(leases.iter().map(text_bytes).sum()) as usize;
    drop(held.split(held.num_permits().saturating_sub(needed)));
}

/// Jobs a part at a time, by [`PART_BYTES`].
pub(super) fn parts(leases: &[Lease]) -> impl Iterator<Item = &[Lease]> {
    let mut bytes = leases.first().map_or(0, text_bytes);
    leases.chunk_by(move |_, next| {
        bytes += text_bytes(next);
        let fits = bytes <= PART_BYTES;
        if !fits {
            bytes = text_bytes(next);
        }
        fits
    })
}
