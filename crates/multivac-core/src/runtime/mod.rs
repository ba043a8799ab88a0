//! What both programs need to run; nothing of the domain.

pub mod config;
pub mod health;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
