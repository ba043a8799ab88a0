//! The contract, asked of the real application over HTTP: a file a part of it, a test a row.
#![allow(clippy::unwrap_used)]

mod ask;
mod backpressure;
mod bad_input;
mod bulk;
mod feed;
mod original;
mod redis;
mod replicas;
mod start;
mod test_app;
