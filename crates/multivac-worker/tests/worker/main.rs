//! The real programs against a real Redis and a real MongoDB.
#![allow(clippy::unwrap_used)]

mod commands;
mod crash;
mod drain;
mod faults;
mod load;
mod operations;
mod poison;
mod process;
mod rolling;
mod start;
mod system;
mod take_over;
mod test_worker;
