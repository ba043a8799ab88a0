//! The HTTP contract, tried on the real application: a file for each part of it, a test for each row.
#![allow(clippy::unwrap_used)]

mod ask;
mod backpressure;
mod bad_input;
mod bulk;
mod configuration;
mod embedded;
mod errors;
mod feed;
mod fence;
mod hostile;
mod network;
mod openapi;
mod original;
mod program;
mod redis;
mod replicas;
mod shutdown;
mod start;
mod test_app;
