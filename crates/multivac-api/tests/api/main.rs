//! The contract, asked of the real application over HTTP: a file a part of it, a test a row.
#![allow(clippy::unwrap_used)]

mod ask;
mod backpressure;
mod bad_input;
mod bulk;
mod chaos_proxy;
mod embedded;
mod feed;
mod hostile;
mod network;
mod original;
mod program;
mod redis;
mod replicas;
mod shutdown;
mod start;
mod test_app;
mod wire;
