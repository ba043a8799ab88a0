//! What both programs need to run: settings, health, signals, supervised tasks. Nothing of the domain.

pub mod config;
pub mod health;
pub mod hosts;
pub mod retry;
pub mod shutdown;
pub mod supervise;
