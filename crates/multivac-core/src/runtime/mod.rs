//! What both programs need to run: settings, health, signals, supervised tasks, a clock. Nothing of the domain.

pub mod clock;
pub mod config;
pub mod files;
pub(crate) mod for_owner;
pub mod health;
pub mod hosts;
pub mod retry;
pub mod shutdown;
pub mod supervise;
