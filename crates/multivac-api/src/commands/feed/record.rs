//! What was fed, and as which datum, in a file of this user's.
//!
//! The server knows a key for a day. For what was fed before that, its id is here: the server is asked whether it still knows
//! that datum, and only if not it is fed again. So nothing is believed that the server does not confirm, and a record that is
//! lost means no more than that feeding again after a day feeds twice.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use multivac_core::datum::DatumId;
use multivac_core::queue::IDEMPOTENCY_KEY_LIFETIME;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::Item;
use crate::client::Client;

/// How long the server is trusted to know a key: not up to the last minute, since clocks differ and requests take time.
const KEY_IS_KNOWN: Duration = IDEMPOTENCY_KEY_LIFETIME.saturating_sub(Duration::from_secs(4 * 60 * 60));

/// How long another `feed` that writes is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What was accepted by one server of one user.
pub(super) struct Record {
    file: Option<Mutex<Connection>>,
    /// Keys are of a server and a user.
    scope: Vec<u8>,
    /// Whether it was told that something could not be kept.
    has_failed: AtomicBool,
}

impl Record {
    /// The record of what this client feeds.
    pub(super) fn open(client: &Client) -> Result<Self, String> {
        let directory = directory().ok_or("neither XDG_STATE_HOME nor HOME is set")?;
        let file = directory.join("fed.db");
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| failed(&error))?;
        let file = connect(&file).map_err(|error| failed(&error))?;
        let scope = format!("{}\0{}\0", one_name(client.server()), client.user().unwrap_or_default()).into_bytes();
        Ok(Self { file: Some(Mutex::new(file)), scope, has_failed: AtomicBool::new(false) })
    }

    /// None: nothing is recorded.
    pub(super) fn none() -> Self {
        Self { file: None, scope: Vec::new(), has_failed: AtomicBool::new(false) }
    }

    /// Whether there is a record, usable or not.
    pub(super) fn exists() -> bool {
        directory().is_some_and(|directory| directory.join("fed.db").exists())
    }

    /// The ids of those items that were fed so long ago that the server may not know their keys any more.
    ///
    /// # Errors
    /// When the record cannot be read: who went on then would feed twice.
    pub(super) fn old_ids(&self, items: &[Item]) -> Result<Vec<Option<String>>, String> {
        let Some(file) = &self.file else { return Ok(vec![None; items.len()]) };
        let before = now() - KEY_IS_KNOWN.as_secs().cast_signed();
        let look_up = |file: &Connection| {
            let mut look_up = file.prepare_cached("SELECT id FROM fed WHERE what = ?1 AND at < ?2")?;
            let of = |item: &Item| {
                look_up.query_row(params![self.what(&item.recorded), before], |row| row.get(0)).optional()
            };
            items.iter().map(of).collect::<rusqlite::Result<Vec<Option<String>>>>()
        };
        look_up(&file.lock().unwrap_or_else(PoisonError::into_inner))
            .map_err(|error| format!("the record of what was fed cannot be read: {error}"))
    }

    /// Keeps what was accepted. Where that fails, which is told once, it is as if nothing were recorded.
    pub(super) fn add(&self, accepted: &[(String, String)]) {
        let Some(file) = &self.file else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut add = || {
            let all = file.transaction()?;
            {
                let mut add = all.prepare_cached("INSERT OR REPLACE INTO fed (what, id, at) VALUES (?1, ?2, ?3)")?;
                for (key, id) in accepted {
                    // The server counts its day from when it first took the datum, which its id tells.
                    let first = id.parse::<DatumId>().ok().and_then(|id| id.created_at());
                    let first = first.map_or(i64::MAX, |first| first.as_millis() / 1_000);
                    add.execute(params![self.what(key), id, first.min(now())])?;
                }
            }
            all.commit()
        };
        if let Err(error) = add()
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            eprintln!(
                "multivac-api: warning: not all that is fed is recorded, so feeding it again after a day would feed it twice: {error}"
            );
        }
    }

    fn what(&self, key: &str) -> [u8; 16] {
        let mut sha = Sha256::new();
        sha.update(&self.scope);
        sha.update(key);
        let mut what = [0; 16];
        what.copy_from_slice(&sha.finalize()[..16]);
        what
    }
}

/// One name for a server, of the ways in which people write its URL: without the usual port, and this machine by its address.
fn one_name(server: &str) -> String {
    let server = server.to_ascii_lowercase();
    let (scheme, rest) = server.split_once("://").unwrap_or(("", &server));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(usual).unwrap_or(authority);
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => authority.split_at(colon),
        _ => (authority, ""),
    };
    let host = if matches!(host, "localhost" | "[::1]") { "127.0.0.1" } else { host };
    format!("{scheme}://{host}{port}{path}")
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let file = Connection::open(file)?;
    file.busy_timeout(BUSY_TIMEOUT)?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    // What is lost with the power is asked of the server by its key.
    file.pragma_update(None, "synchronous", "NORMAL")?;
    file.execute_batch(
        "CREATE TABLE IF NOT EXISTS fed (what BLOB PRIMARY KEY, id TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID",
    )?;
    Ok(file)
}

fn directory() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    Some(state.or_else(|| Some(set("HOME")?.join(".local/state")))?.join("multivac"))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::one_name;

    #[test]
    fn a_server_has_one_name_however_its_url_is_written() {
        for (urls, name) in [
            (["http://localhost:5000", "http://127.0.0.1:5000", "http://[::1]:5000"], "http://127.0.0.1:5000"),
            (["https://Host.example", "https://host.example:443", "HTTPS://HOST.example"], "https://host.example"),
            (["http://host:80/a", "http://host/a", "http://HOST/a"], "http://host/a"),
            (["https://[2001:db8::1]", "https://[2001:db8::1]:443", "https://[2001:DB8::1]"], "https://[2001:db8::1]"),
        ] {
            assert_eq!(urls.map(one_name), [name; 3]);
        }
        assert_ne!(one_name("http://host:5000"), one_name("http://host:5001"));
    }
}
