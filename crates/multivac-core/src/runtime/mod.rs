//! What both programs need to run: settings, health, signals. Nothing of the domain.

pub mod config;
pub mod health;
pub mod shutdown;
