//! MultiVAC's domain: the way of a datum from a text that is fed to a question that is answered.
//!
//! The modules are the links of that way, in the order in which a datum meets them:
//!
//! 1. [`accept`]: text in, an id out, once the queue holds it durably;
//! 2. [`queue`]: the port behind which it waits;
//! 3. [`consumer`] leases it and [`process`]es it;
//! 4. [`store`]: the port behind which it is kept; [`status`] tells where it stands and takes it back;
//! 5. [`index`] follows the store;
//! 6. [`answer`]s rest on the index.
//!
//! The ports' [`adapters`] are Redis and MongoDB, or one embedded file. [`runtime`] is what both programs need to run.

pub mod datum;
pub mod question;

pub mod accept;
pub mod answer;
pub mod consumer;
pub mod index;
pub mod process;
pub mod queue;
pub mod status;
pub mod store;

pub mod adapters;
pub mod runtime;
