//! The real programs against a real Redis and a real MongoDB.
#![allow(clippy::unwrap_used)]

mod commands;
mod configuration;
mod crash;
mod doctor;
mod drain;
mod faults;
mod hang;
mod hosts;
mod limits;
mod memory;
mod metrics;
mod operations;
mod rolling;
mod start;
mod test_worker;
mod trace;
mod unprocessable;
