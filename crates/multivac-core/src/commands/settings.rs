//! The checks of `doctor` that ask no backend: whether the settings fit together, the files that they name, this machine.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::adapters::findings::{self, Finding, Status};
use crate::index;
use crate::queue::QueueSettings;
use crate::runtime::config::{BackendArgs, ConfigError, ServerUrls};
use crate::runtime::files;
use crate::runtime::files::disk_of;
use crate::runtime::health::HealthArgs;

/// What is examined: the settings of a program.
pub struct Subject<'a> {
    /// Where the backends are.
    pub args: &'a BackendArgs,
    /// How the queue is used.
    pub queue: Result<QueueSettings, ConfigError>,
    /// Where the data are when no server is named; `None` for a program that needs the servers.
    pub data_dir: Option<&'a Path>,
    /// What the program listens at.
    pub listen: &'a str,
    /// Whether it answers questions, and so has an index and bounds the queue.
    pub has_index: bool,
    /// How many files it has open at once, at least.
    pub open_files: u64,
}

/// All of them, in the order in which they are told.
pub(super) async fn examine(subject: &Subject<'_>, urls: &Result<Option<ServerUrls>, ConfigError>) -> Vec<Finding> {
    let (listen, collector) = tokio::join!(
        findings::in_time("listen", listen(subject.listen.to_owned())),
        findings::in_time("collector", collector()),
    );
    let mut found = vec![settings(subject, urls), secrets(subject), open_files(subject.open_files), listen, collector];
    if subject.has_index {
        found.extend(of_index());
    }
    found
}

fn settings(subject: &Subject<'_>, urls: &Result<Option<ServerUrls>, ConfigError>) -> Finding {
    let check = "settings";
    let advice = "`--help` and docs/configuration.md explain each setting";
    let (lease, limit) = (*subject.args.lease, *subject.args.process_timeout);
    match (urls, &subject.queue) {
        (Err(error), _) | (_, Err(error)) => Finding::error(check, error.to_string(), advice),
        (Ok(None), _) if subject.data_dir.is_none() => {
            let found = "REDIS_URL and MONGO_URL are needed; without them multivac-api learns in its own process";
            Finding::error(check, found, advice)
        }
        (Ok(_), Ok(_)) if lease <= limit => {
            let advice =
                "make --lease the longer one: a job that is processed for so long needs its lease extended meanwhile";
            let found = format!("--lease ({}) is not longer than --process-timeout ({})", time(lease), time(limit));
            Finding::warning(check, found, advice)
        }
        (Ok(Some(_)), Ok(_)) => Finding::ok(check, "the full system"),
        (Ok(None), Ok(_)) => Finding::ok(check, "the embedded system"),
    }
}

fn time(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

/// The files that hold URLs, and with them passwords.
fn secrets(subject: &Subject<'_>) -> Finding {
    let check = "secrets";
    let named = [&subject.args.redis_url_file, &subject.args.mongo_url_file].into_iter().flatten();
    let mut open = Vec::new();
    for path in named.clone().filter(|path| !path.as_os_str().is_empty()) {
        if let Err(error) = std::fs::File::open(path) {
            let found = format!("{} cannot be read: {error}", path.display());
            return Finding::error(check, found, "let the user that runs MultiVAC read it");
        }
        if is_for_everybody(path) {
            open.push(path.display().to_string());
        }
    }
    if open.is_empty() {
        let found = if named.count() == 0 { "none is in a file" } else { "their files are for owner and group alone" };
        return Finding::ok(check, found);
    }
    Finding::warning(check, format!("everybody on this machine may read {}", open.join(", ")), "chmod o= on them")
}

#[cfg(unix)]
fn is_for_everybody(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_for_everybody(_: &Path) -> bool {
    false
}

fn open_files(needed: u64) -> Finding {
    let check = "open-files";
    match files::require(needed) {
        Ok(allowed) => Finding::ok(check, format!("{allowed} may be open, {needed} are needed at least")),
        Err(error) => Finding::error(check, error.to_string(), "raise the limit (ulimit -n, LimitNOFILE=)"),
    }
}

/// Whether the address can be listened at, or the program does already.
async fn listen(address: String) -> Finding {
    let check = "listen";
    let error = match TcpListener::bind(&address) {
        Ok(_) => return Finding::ok(check, format!("{address} is free")),
        Err(error) => error,
    };
    let asked = address.clone();
    let answers = tokio::task::spawn_blocking(move || HealthArgs { live: true }.ask(&asked)).await;
    match (error.kind(), answers) {
        (std::io::ErrorKind::AddrInUse, Ok(Ok(()))) => Finding::ok(check, format!("{address} answers /healthz")),
        (std::io::ErrorKind::AddrInUse, _) => {
            let found = format!("{address} is in use by something that does not answer /healthz");
            Finding::error(check, found, "stop that (`ss -ltnp` names it), or listen elsewhere")
        }
        _ => Finding::error(
            check,
            format!("{address} cannot be listened at: {error}"),
            "name an address of this machine",
        ),
    }
}

/// Whether the collector of traces can be reached, where there is one.
async fn collector() -> Finding {
    let check = "collector";
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(set("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let Some(endpoint) = named else { return Finding::ok(check, "none is set, so traces are not sent") };
    let advice = "start the collector, or mend OTEL_EXPORTER_OTLP_ENDPOINT; requests do not wait for it";
    let url = endpoint.parse::<http::Uri>().ok().filter(|url| url.scheme().is_some());
    let default_port = if endpoint.starts_with("https:") { 443 } else { 80 };
    // Without what may be a password in it.
    let server = url.as_ref().and_then(|url| Some((url.host()?, url.port_u16().unwrap_or(default_port))));
    let Some((host, port)) = server else {
        return Finding::warning(check, "OTEL_EXPORTER_OTLP_ENDPOINT is no URL with a host", advice);
    };
    match findings::is_reachable(host, port).await {
        Ok(()) => Finding::ok(check, format!("{host}:{port} can be connected to")),
        Err(error) => Finding::warning(check, error, advice),
    }
}

/// The directory for temporary files, which holds the index.
fn of_index() -> [Finding; 2] {
    let (check, place) = ("index.directory", std::env::temp_dir());
    let of = format!("the index ({})", place.display());
    let room = findings::disk("index.disk", disk_of(&place), &of);
    let directory = match index::left_over() {
        Err(error) => {
            let found = format!("no index can be made in {}: {error}", place.display());
            Finding::error(check, found, "let the user that runs MultiVAC write there, or set TMPDIR")
        }
        Ok(left) if left.is_empty() => Finding::ok(check, place.display().to_string()),
        Ok(left) => {
            let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
            let found = format!("killed processes have left {}", names.join(", "));
            Finding::warning(check, found, "remove them, or start multivac-api, which does")
        }
    };
    // A full disk is one cause, told once.
    if room.status == Status::Error && directory.status == Status::Error {
        return [room, Finding::skipped(check, "its disk is full")];
    }
    [room, directory]
}
