//! MultiVAC's domain: the way of a datum from a text that is fed to a question that is answered.
//!
//! The modules are the links of that way, in the order in which a datum meets them:
//!
//! 1. [`accept`]: text in, an id out, once the queue holds it durably;
//! 2. [`queue`]: the port behind which it waits;
//! 3. [`consumer`] leases it and [`process`]es it; what cannot be processed lies in the [`dead_letters`];
//! 4. [`store`]: the port behind which it is kept; [`status`] tells where it stands and takes it back;
//! 5. [`index`] follows the store; [`system`] shows who takes part in all this;
//! 6. [`answer`]s rest on the index.
//!
//! Feeding and asking, embedded:
//!
//! ```
//! use multivac_core::{accept::*, adapters::embedded::Embedded, answer::*, consumer::Consumer, datum::Datum,
//!                     index::{Index, follow::Follower}, process::process, queue::QueueSettings,
//!                     runtime::supervise::Supervisor};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let settings = QueueSettings::default();
//! let lease = settings.lease;
//! let embedded = Embedded::open(directory.path(), settings)?;
//! let (queue, store) = (embedded.queue(), embedded.store());
//!
//! let stop = tokio_util::sync::CancellationToken::new();
//! let supervisor = Supervisor::new(stop.clone());
//! let text = "Entropy can be reversed by gathering all of the starlight. It takes a while.";
//! let request = AcceptRequest { datum: Datum::new(text, 1 << 20)?, key: None };
//! let id = Acceptor::new(queue.clone(), &supervisor).accept(request).await?.id; // From here on it is never lost.
//!
//! let process_timeout = std::time::Duration::from_secs(10);
//! let consumer = Consumer {
//!     queue,
//!     store: store.clone(),
//!     lease,
//!     concurrency: 1,
//!     max_bytes_under_way: 8 << 20,
//!     process,
//!     process_timeout,
//! };
//! tokio::spawn(consumer.run(stop.clone()));
//! let index = std::sync::Arc::new(Index::new()?);
//! let (follower, stopped) = (Follower::new(store, index.clone(), "a replica".into()), stop.clone());
//! tokio::spawn(async move { follower.run(stopped).await });
//! while !index.contains(id) {
//!     tokio::task::yield_now().await;
//! }
//!
//! let question = "How can entropy be reversed?".parse()?;
//! let answer = answer(&question, &index.snapshot(), fitted_threshold())?;
//! assert_eq!(answer.text(), "Entropy can be reversed by gathering all of the starlight.");
//! assert_eq!(answer.evidence[0].id, id);
//! # stop.cancel();
//! # Ok(())
//! # }
//! ```
//!
//! The ports' [`adapters`] are Redis and MongoDB, or one embedded file. [`observe`] is what a running process shows of
//! itself, [`backup`] its data as one file, [`runtime`] what both programs need to run, [`commands`] what operators can do with
//! either. `words/` holds word lists as data files.

pub mod datum;
pub mod question;
mod words;

pub mod accept;
pub mod answer;
pub mod backpressure;
pub mod consumer;
pub mod dead_letters;
pub mod index;
pub mod process;
pub mod queue;
pub mod status;
pub mod store;
pub mod system;
pub mod watch;

pub mod adapters;
pub mod backup;
pub mod commands;
pub mod observe;
pub mod runtime;
