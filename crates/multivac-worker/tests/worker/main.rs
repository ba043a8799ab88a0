//! The worker's real program against a real Redis and a real MongoDB.
#![allow(clippy::unwrap_used)]

mod commands;
mod crash;
mod drain;
mod poison;
mod start;
mod test_worker;
