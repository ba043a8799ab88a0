//! `export` and `import` from and to a server elsewhere.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use futures_util::TryStreamExt;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use indicatif::{ProgressBar, ProgressStyle};
use multivac_core::commands::CommandError;
use multivac_core::commands::backup::{Export, Source, report, verified};
use multivac_core::commands::files::Draft;
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use crate::client::retry::again;
use crate::client::{Access, Call, Client, ClientError};

/// How long a server that is away, or has another backup under way, is tried again.
const AWAY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may say nothing at all while it gives a backup.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an import may take: as long as the edge waits for a reply.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// What `export` takes.
#[derive(Args, Clone)]
pub struct ExportFrom {
    /// Where it goes.
    #[command(flatten)]
    pub export: Export,

    /// Whom to ask.
    #[command(flatten)]
    pub over: OverHttp,
}

/// What `import` takes.
#[derive(Args, Clone)]
pub struct ImportTo {
    /// What to read.
    #[command(flatten)]
    pub source: Source,

    /// Whom to send it to.
    #[command(flatten)]
    pub over: OverHttp,
}

/// A server elsewhere, in place of this machine's backends.
#[derive(Args, Clone)]
pub struct OverHttp {
    /// Over HTTP, with the server at this URL, where its operator allows it (--allow-backup-over-http). No variable stands for it,
    /// since that would change which data are meant.
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,

    /// As whom, and whom to trust.
    #[command(flatten)]
    pub access: Access,
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        Self::Remote(error.to_string())
    }
}

/// `export --to`: writes what the server gives, verifies it, and only then gives it its name.
///
/// # Errors
/// When it does not come whole; then there is none of its name.
pub async fn export(export: Export, to: &str, access: &Access) -> Result<(), CommandError> {
    if export.wait.is_some() {
        return Err(CommandError::Remote("--wait is for the data of this machine, not with --to".to_owned()));
    }
    let target = export.target()?;
    let client = Client::new(to, access)?;
    match &target {
        Some(path) => {
            let draft = Draft::new(path, export.force)?;
            let trailer = receive(&client, draft.file()?, path).await?;
            draft.keep()?;
            report(&trailer, Some(path));
        }
        None => {
            let mut whole = tempfile::tempfile()?;
            let trailer = receive(&client, whole.try_clone()?, Path::new("(what the server gives)")).await?;
            whole.seek(SeekFrom::Start(0))?;
            io::copy(&mut whole, &mut io::stdout().lock())?;
            report(&trailer, None);
        }
    }
    export.remove_older()
}

async fn receive(client: &Client, file: File, path: &Path) -> Result<multivac_core::backup::Trailer, CommandError> {
    let begin = async || client.begin(client.request(Method::GET, "/multivac/export")).await;
    let mut reading = again(AWAY_TIMEOUT, begin).await?;
    let unwritable = |source| CommandError::File { path: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, tokio::fs::File::from_std(file));
    let bar = bar("{bytes} received, {bytes_per_sec}", None);
    loop {
        let chunk = timeout(STALL_TIMEOUT, client.next(&mut reading)).await;
        let Some(chunk) = chunk.map_err(|_| client.unreachable("the backup stalled"))?? else { break };
        out.write_all(&chunk).await.map_err(unwritable)?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    out.flush().await.map_err(unwritable)?;
    let file = out.into_inner().into_std().await;
    Ok(verified(&file, path).await?.1)
}

/// What the server says of an import.
#[derive(Deserialize)]
struct Imported {
    data: u64,
    tombstones: u64,
    stay_retracted: u64,
    taken_back: u64,
    learned: Option<u64>,
    retracted: Option<u64>,
    ledger_agrees: bool,
}

/// `import --to`: verifies the file here, and sends it.
///
/// # Errors
/// When it is not whole, or the server does not take it. The same again does no harm.
pub async fn import(source: Source, to: &str, access: &Access) -> Result<(), CommandError> {
    let client = Client::new(to, access)?;
    let (file, path) = source.open()?;
    let (header, trailer) = verified(&file, &path).await?;
    eprintln!("{} is whole: of {}, by MultiVAC {}", path.display(), header.exported_at, header.by);
    report(&trailer, None);
    let reply = again(AWAY_TIMEOUT, async || client.json(upload(&client, &file, &path)?).await).await?;
    let imported: Imported =
        serde_json::from_slice(&reply.body).map_err(|_| client.other("its reply is none to an import"))?;
    let Imported { data, tombstones, stay_retracted, taken_back, learned, retracted, ledger_agrees } = imported;
    eprintln!(
        "imported {data} data and {tombstones} tombstones; {stay_retracted} of the data stay retracted, {taken_back} were taken \
         back by a tombstone"
    );
    match (learned, retracted) {
        (Some(learned), Some(retracted)) => eprintln!("the store holds {learned} data and {retracted} tombstones"),
        _ => eprintln!("the store did not count in time what it holds"),
    }
    match ledger_agrees {
        true => eprintln!("the ledger agrees with the store"),
        false => eprintln!("the ledger follows within a minute of the queue's being empty"),
    }
    Ok(())
}

/// The request, whose body is the file from its beginning.
fn upload(client: &Client, file: &File, path: &Path) -> Result<Call, ClientError> {
    let unreadable = |error: io::Error| ClientError::Usage(format!("{}: {error}", path.display()));
    let mut file = file.try_clone().map_err(unreadable)?;
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let bar =
        bar("[{bar:24}] {percent:>3} %  {bytes} of {total_bytes} sent, {bytes_per_sec}, {eta} left", Some(length));
    let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 << 10);
    let chunks = chunks.inspect_ok(move |chunk| {
        bar.inc(chunk.len() as u64);
        if bar.length() == Some(bar.position()) {
            bar.finish_and_clear();
        }
    });
    let request = client.request(Method::POST, "/multivac/import").within(IMPORT_TIMEOUT);
    let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    Ok(request.header(CONTENT_LENGTH, length.into()).stream(chunks))
}

/// A progress bar on the standard error, if that is a terminal.
fn bar(template: &str, length: Option<u64>) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(ProgressStyle::with_template(template).expect("the template is right").progress_chars("##."))
}
