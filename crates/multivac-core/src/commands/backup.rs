//! `export`, `import` and `drill`: all data and tombstones as one file, the way back, and whether it serves.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use humantime::Duration as Time;
use tokio::time::{Instant, sleep};

use super::CommandError;
use super::files::{self, Draft};
use super::progress::Progress;
use crate::adapters::Backends;
use crate::adapters::embedded::Beside;
use crate::backup::restore::{again, check, restore};
use crate::backup::{BackupError, Trailer, drill, write};
use crate::datum::Timestamp;
use crate::queue::{Ledger, QueueSettings};
use crate::runtime::config::{BackendArgs, duration};
use crate::store::{BackupKind, SnapshotEntries};

/// How often `--wait` looks at the queue.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// How long the queue may take to say what is unfinished: that is told, and a backup does not need it.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

/// What `export` takes.
#[derive(Args, Clone)]
pub struct Export {
    /// The file to write, which must not exist; - is the standard output.
    #[arg(value_name = "FILE", required_unless_present = "directory", conflicts_with = "directory")]
    pub file: Option<PathBuf>,
    /// Write a file of this directory instead, multivac-TIME.ndjson.gz, such as multivac-20261127T030000Z.ndjson.gz.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Keep so many of these files, with the new one, and remove the older ones once that is whole. Left out: all are kept.
    #[arg(long, value_name = "N", requires = "directory", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Replace the file if it exists, once the new one is whole.
    #[arg(long, conflicts_with = "directory")]
    pub force: bool,
    /// Wait up to so long, such as 5min, until nothing is queued or processing any more, and then export in any case.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait: Option<Time>,
}

/// Which file `import` and `drill` read.
#[derive(Args, Clone)]
pub struct Source {
    /// The file to read; - is the standard input, which is copied to a temporary file first.
    #[arg(value_name = "FILE", required_unless_present = "latest", conflicts_with = "latest")]
    pub file: Option<PathBuf>,
    /// Read the newest file of this directory that `export --directory` wrote.
    #[arg(long, value_name = "DIRECTORY")]
    pub latest: Option<PathBuf>,
}

/// The settings of the program that the commands use.
pub struct Settings<'a> {
    /// Where the backends are.
    pub args: &'a BackendArgs,
    /// How the queue is used.
    pub queue: QueueSettings,
    /// Where the data are when no server is named.
    pub data_dir: &'a Path,
}

/// What an export, and `calibrate`, reads: servers, or a data directory, beside the process that may be using it.
pub(super) enum Origin {
    Servers(Box<Backends>),
    Directory(Beside),
}

impl Origin {
    pub(super) async fn new(settings: &Settings<'_>) -> Result<Self, CommandError> {
        if let Some(urls) = settings.args.server_urls()? {
            let backends = Backends::servers(urls, settings.args, settings.queue.clone()).await?;
            // As import does: at night, when nobody looks, a server that is away for a minute is no reason to have no backup.
            again(async || Ok(backends.store.prepare().await?)).await?;
            return Ok(Self::Servers(Box::new(backends)));
        }
        let file = settings.data_dir.join("multivac.db");
        if !file.exists() {
            return Err(CommandError::NoData(file));
        }
        Ok(Self::Directory(Beside::new(settings.data_dir)))
    }

    pub(super) fn snapshot(&self) -> SnapshotEntries<'_> {
        match self {
            Self::Servers(backends) => backends.store.snapshot(),
            Self::Directory(beside) => beside.snapshot(),
        }
    }

    /// `None` where the queue does not say it in time.
    async fn ledger(&self) -> Option<Ledger> {
        let ledger = async {
            match self {
                Self::Servers(backends) => backends.queue.ledger().await.ok(),
                Self::Directory(beside) => beside.ledger().await.ok(),
            }
        };
        tokio::time::timeout(LEDGER_TIMEOUT, ledger).await.ok().flatten()
    }

    async fn record(&self, kind: BackupKind) -> Result<(), CommandError> {
        let now = Timestamp::now();
        match self {
            Self::Servers(backends) => backends.store.record_backup(kind, now).await?,
            Self::Directory(beside) => beside.record_backup(kind, now).await?,
        }
        Ok(())
    }
}

impl Export {
    /// Where the backup goes; `None` is the standard output.
    ///
    /// # Errors
    /// When that is a terminal.
    pub fn target(&self) -> Result<Option<PathBuf>, CommandError> {
        let target = match (&self.file, &self.directory) {
            (_, Some(directory)) => Some(directory.join(files::new_name(directory))),
            (Some(file), None) => (file.as_os_str() != "-").then(|| file.clone()),
            (None, None) => None,
        };
        if target.is_none() && io::stdout().is_terminal() {
            return Err(CommandError::Terminal);
        }
        Ok(target)
    }

    /// Removes the older ones of the directory, once the new one is whole.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_older(&self) -> Result<(), CommandError> {
        if let (Some(directory), Some(keep)) = (&self.directory, self.keep) {
            for removed in files::remove_older(directory, keep as usize)? {
                eprintln!("removed {}", removed.display());
            }
        }
        Ok(())
    }

    /// Writes the backup. All that is told goes to the standard error.
    ///
    /// # Errors
    /// When the store cannot be read or the file not written; then there is none of its name.
    pub async fn run(self, settings: Settings<'_>) -> Result<(), CommandError> {
        let target = self.target()?;
        let origin = Origin::new(&settings).await?;
        if let Some(wait) = self.wait {
            until_quiet(&origin, *wait).await;
        }
        let ledger = origin.ledger().await;
        let progress = Progress::new("exported", ledger.as_ref().map(|ledger| ledger.learned + ledger.retracted));
        let trailer = match &target {
            None => write::write(origin.snapshot(), BufWriter::new(io::stdout()), &|n| progress.tell(n)).await?.1,
            Some(file) => {
                let draft = Draft::new(file, self.force)?;
                let out = BufWriter::with_capacity(1 << 20, draft.file()?);
                let (out, trailer) =
                    write::write(origin.snapshot(), out, &|n| progress.tell(n)).await.map_err(|e| in_file(e, file))?;
                drop(out);
                draft.keep()?;
                trailer
            }
        };
        progress.end();
        report(&trailer, target.as_deref());
        match ledger {
            None => eprintln!("not in it: what was queued or a dead letter; the queue did not say how many"),
            Some(ledger) => eprintln!(
                "not in it: {} unfinished data, which are in the queue until they are learned, and {} dead letters",
                ledger.queued + ledger.processing,
                ledger.dead
            ),
        }
        if target.is_some() {
            origin.record(BackupKind::Backup).await?;
        }
        self.remove_older()
    }
}

/// With the name of the file, which the system's errors lack.
fn in_file(error: BackupError, file: &Path) -> CommandError {
    match error {
        BackupError::Io(error) => CommandError::File { path: file.to_owned(), source: error },
        error => error.into(),
    }
}

async fn until_quiet(origin: &Origin, wait: Duration) {
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline && !origin.ledger().await.is_some_and(|ledger| ledger.is_quiet()) {
        sleep(WAIT_INTERVAL).await;
    }
}

/// Says what a backup holds.
pub fn report(trailer: &Trailer, file: Option<&Path>) {
    let Trailer { data, tombstones, unreadable, sha256 } = trailer;
    let file = file.map_or_else(String::new, |file| format!(" in {}", file.display()));
    eprintln!("{data} data and {tombstones} tombstones{file}, sha256 {sha256}");
    if *unreadable > 0 {
        eprintln!("warning: {unreadable} data could not be read and are not in it; `doctor` says why");
    }
}

impl Source {
    /// The file, and its name for messages.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(&self) -> Result<(File, PathBuf), CommandError> {
        let path = match (&self.file, &self.latest) {
            (_, Some(directory)) => files::newest(directory)?,
            (Some(file), None) => file.clone(),
            (None, None) => PathBuf::from("-"),
        };
        if path.as_os_str() == "-" {
            return Ok((spool()?, PathBuf::from("the standard input")));
        }
        let unreadable = |source| CommandError::File { path: path.clone(), source };
        let file = File::open(&path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        Ok((file, path))
    }
}

/// The standard input in a temporary file, which vanishes with the process.
fn spool() -> Result<File, CommandError> {
    let place = std::env::temp_dir();
    let copy = || {
        let mut file = tempfile::tempfile_in(&place)?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        Ok(file)
    };
    copy().map_err(|source| CommandError::File { path: place.join("(a copy of the standard input)"), source })
}

/// `import`: verifies the whole file, then puts what is in it into the queue's store.
///
/// # Errors
/// When it is not whole: nothing is changed then. When a backend stays away: the same again goes on.
pub async fn import(source: Source, settings: Settings<'_>) -> Result<(), CommandError> {
    let (file, path) = source.open()?;
    let (header, trailer) = verified(&file, &path).await?;
    eprintln!("{} is whole: of {}, by MultiVAC {}", path.display(), header.exported_at, header.by);
    report(&trailer, None);
    let backends = match settings.args.server_urls()? {
        Some(urls) => Backends::servers(urls, settings.args, settings.queue).await?,
        None => Backends::embedded(settings.data_dir, settings.queue)?,
    };
    let progress = Progress::new("imported", Some(trailer.data + trailer.tombstones));
    let restored = restore(&backends, &file, &|n| progress.tell(n)).await.map_err(|e| in_file(e, &path))?;
    progress.end();
    eprintln!(
        "imported {} data and {} tombstones; {} of the data stay retracted, {} were taken back by a tombstone",
        trailer.data, trailer.tombstones, restored.stay_retracted, restored.taken_back
    );
    match restored.counts {
        Some(counts) => eprintln!("the store holds {} data and {} tombstones", counts.learned, counts.retracted),
        None => eprintln!("the store did not count in time what it holds"),
    }
    match restored.reconciled {
        true => eprintln!("the ledger agrees with the store"),
        false => eprintln!("the ledger follows within a minute of the queue's being empty, while a server runs"),
    }
    Ok(())
}

/// Verifies the whole of a file.
///
/// # Errors
/// When it is not whole.
pub async fn verified(file: &File, path: &Path) -> Result<(crate::backup::Header, Trailer), CommandError> {
    let progress = Progress::new("verified", None);
    let told = progress.clone();
    let checked = check(file, move |n| told.tell(n)).await;
    progress.end();
    checked.map_err(|error| match error {
        BackupError::Io(source) => CommandError::File { path: path.to_owned(), source },
        error => CommandError::BadBackup { path: path.to_owned(), source: Box::new(error) },
    })
}

/// `drill`: imports the file into an embedded MultiVAC in a temporary directory, and asks that.
///
/// # Errors
/// When anything does not come out as it should.
pub async fn drill(source: Source, settings: Settings<'_>) -> Result<(), CommandError> {
    let (file, path) = source.open()?;
    let (header, _) = verified(&file, &path).await?;
    let directory = tempfile::Builder::new().prefix("multivac-drill-").tempdir()?;
    let progress = Progress::new("imported", None);
    let drilled = drill::drill(&file, directory.path(), &|n| progress.tell(n)).await;
    progress.end();
    directory.close()?;
    let drilled = drilled.map_err(|error| CommandError::BadBackup { path: path.clone(), source: Box::new(error) })?;
    eprintln!("{} of {} serves: imported and exported again, it is the same", path.display(), header.exported_at);
    report(&drilled.trailer, None);
    match drilled.evidence {
        Some(id) => eprintln!("asked for a sentence of {id}, its index finds it"),
        None => eprintln!("asked the standing question, it has no answer: there is nothing in it"),
    }
    match Origin::new(&settings).await {
        Ok(origin) => origin.record(BackupKind::Drill).await,
        Err(CommandError::NoData(_)) => {
            eprintln!("not recorded: the settings name no MultiVAC whose backup it is");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
