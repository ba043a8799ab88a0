//! The commands of the program, beside serving.

use clap::Subcommand;
use multivac_core::commands::backup::Source;
use multivac_core::commands::calibrate::Calibrate;
use multivac_core::commands::dead::Dead;
use multivac_core::commands::doctor::Doctor;
use multivac_core::runtime::health::HealthArgs;

use crate::commands::ask::Ask;
use crate::commands::feed::Feed;
use crate::commands::over_http::{ExportFrom, ImportTo};

/// What to do instead of serving.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Feed files and folders to a server.
    ///
    /// Folders with all that is in them: text, Markdown, HTML and CSV, each file a datum; NDJSON, each line a datum. A text over the
    /// limit is fed in parts, cut at paragraphs. Links are followed. What is binary is passed over and
    /// named. Feeding the same again feeds nothing twice,
    /// also when it was killed half way: each datum has a key made of its file's path and its text. The server knows a key for a
    /// day; what is older, this machine knows (a file in XDG_STATE_HOME) and asks the server about.
    ///
    /// Exit code: 0 all is there; 1 something was rejected or could not be read; 2 the command line makes no sense; 3 the server was
    /// away, full or refused, for longer than --away-timeout; 130 interrupted, after what was under way.
    Feed(Feed),
    /// Ask a server a question.
    ///
    /// Prints the answer, a sentence out of the data, or INSUFFICIENT DATA FOR MEANINGFUL ANSWER.; on a terminal with the
    /// confidence and what it rests on.
    ///
    /// Exit code: 0 there is an answer; 1 there is none; 2 the server could not be asked.
    Ask(Ask),
    /// Show, retry or drop the dead letters: data whose attempts were used up.
    ///
    /// Those of Redis with REDIS_URL and MONGO_URL; else those of --data-dir, while the server that uses it is stopped.
    #[command(subcommand)]
    Dead(Dead),
    /// Look at everything that the server depends on, and say what to do about what is not well.
    ///
    /// The settings, this machine, Redis and MongoDB, or the data directory; the queue's ledger, replicas, clocks, disks.
    /// Nothing is changed, and the server may go on running. Within 15 seconds, whatever hangs.
    ///
    /// Exit code: 0 all is well; 3 there are warnings; 4 there are errors. As with every command, 1 is a command that failed,
    /// and 2 a command line that was not understood, so neither says anything of the system.
    Doctor(Doctor),
    /// Write all data and tombstones to a file, as they are at one moment: a backup, and the way to another system.
    ///
    /// Those of MongoDB with REDIS_URL and MONGO_URL; else those of --data-dir, also while a server uses it. What is not learned
    /// yet and the dead letters are not in it. With --to those of a server elsewhere. The file has another name until it is whole. It is for `import` and `drill`;
    /// docs/backup-format.md describes it.
    Export(ExportFrom),
    /// Bring what `export` wrote into this system, whose data stay.
    ///
    /// Into MongoDB with REDIS_URL and MONGO_URL, beside all that runs; else into --data-dir, while no server uses it. The whole
    /// file is verified before anything is changed. What is there already stays as it is, and what either side has retracted is
    /// retracted. If it is interrupted, the same again goes on. With --to into a server elsewhere.
    Import(ImportTo),
    /// Try a backup: import it into an embedded MultiVAC in a temporary directory, compare, and ask that.
    ///
    /// That it succeeded is recorded where the settings say that the data are, for the metrics and their alert.
    Drill(Source),
    /// Ask your own questions, show how far the confidence of the answers can be trusted, and write a file for --calibration.
    ///
    /// Of the data of MongoDB with REDIS_URL and MONGO_URL; else of those of --data-dir, also while a server uses it. 30 questions
    /// are needed at least, right and wrong ones among them; better are 200 or more, of the kind that people ask, with those that the
    /// data do not answer. Nothing is fed or changed. docs/answers.md says how to read what is printed.
    Calibrate(Calibrate),
    /// Ask the server that listens at --listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check, since the image holds no other program that could ask.
    Health(HealthArgs),
}
