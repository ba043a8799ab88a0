//! What every adapter owes its port, checked against each of them.
#![allow(clippy::unwrap_used)]
// A case that is in no list is never run; as dead code it fails the build.
#![deny(dead_code)]

mod backends;
mod compat;
mod mongo;
mod mongo_follow;
mod mongo_secure;
mod queue;
mod redis;
mod redis_cluster;
mod store;
mod store_backends;
