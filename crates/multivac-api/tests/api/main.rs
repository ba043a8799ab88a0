//! The HTTP contract, tried on the real application: a file for each part of it, a test for each row.
#![allow(clippy::unwrap_used)]

mod ask;
mod backpressure;
mod backup;
mod bad_input;
mod bulk;
mod bulk_ends;
mod clock;
mod configuration;
mod curl;
mod dead;
mod doctor;
mod embedded;
mod errors;
mod feed;
mod fence;
mod files;
mod hang;
mod hostile;
mod limits;
mod logs;
mod media_types;
mod metrics;
mod network;
mod openapi;
mod origin;
mod original;
mod program;
mod redis;
mod replicas;
mod shutdown;
mod start;
mod stored_text;
mod test_app;
mod trace;
mod unreadable;
