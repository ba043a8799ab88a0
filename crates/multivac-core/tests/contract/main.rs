//! What every adapter owes its port, checked against each of them.
#![allow(clippy::unwrap_used)]
// A case that is in no list is never run; as dead code it fails the build.
#![deny(dead_code)]

mod backends;
mod compat;
mod mongo;
mod mongo_follow;
mod mongo_hang;
mod mongo_secure;
mod queue;
mod redis;
mod redis_clock;
mod redis_cluster;
mod redis_compose;
mod redis_damage;
mod redis_failover;
mod redis_maxmemory;
mod redis_misconfigured;
mod store;
mod store_backends;
