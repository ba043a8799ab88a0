//! What the system gives a process: open files, as which connections count, room on disks, and locks.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::Path;

use crate::store::Disk;

/// The disk that a path lies on: what is free for us, and its size.
///
/// # Errors
/// Where the system does not say.
#[cfg(target_os = "linux")]
pub fn disk_of(path: &Path) -> io::Result<Disk> {
    let of = rustix::fs::statvfs(path)?;
    Ok(Disk { free_bytes: of.f_bavail * of.f_frsize, size_bytes: of.f_blocks * of.f_frsize })
}

/// As above.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn disk_of(_: &Path) -> io::Result<Disk> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many bytes the files in a directory take, and those in directories below it.
///
/// # Errors
/// When the directory cannot be read. What cannot be read below it counts nothing.
pub(crate) fn size_of(directory: &Path) -> io::Result<u64> {
    let size_of_entry = |entry: DirEntry| match entry.metadata() {
        Ok(there) if there.is_dir() => size_of(&entry.path()).unwrap_or(0),
        Ok(there) => there.len(),
        Err(_) => 0,
    };
    Ok(fs::read_dir(directory)?.flatten().map(size_of_entry).sum())
}

/// The system allows too few open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} open files are needed, connections among them, and the system allows {allowed}: raise the limit (ulimit -n, or \
     LimitNOFILE of the service)"
)]
pub struct TooFewFiles {
    /// How many the process needs.
    pub needed: u64,
    /// How many it may have.
    pub allowed: u64,
}

/// Raises the limit of open files as far as the system allows, and returns it.
///
/// A process that runs out of them later fails at whatever needs one next, and accepting connections is tried again and again.
/// So one that has too few does not start.
///
/// # Errors
/// When it stays below `needed`.
pub fn require(needed: u64) -> Result<u64, TooFewFiles> {
    // Where it cannot be raised, it stays as it is.
    let allowed = rlimit::increase_nofile_limit(u64::MAX)
        .or_else(|_| rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(soft, _)| soft));
    let allowed = allowed.unwrap_or(u64::MAX);
    if allowed < needed { Err(TooFewFiles { needed, allowed }) } else { Ok(allowed) }
}

/// Which process holds the lock of a file that has the number of the process in it. To be asked only while the file is locked,
/// so the number is not that of an earlier process.
pub(crate) fn lock_holder(mut file: File) -> String {
    let mut content = String::new();
    let read = file.read_to_string(&mut content).is_ok();
    match content.trim().parse::<u32>() {
        Ok(process) if read => format!("process {process}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_may_have_enough_goes_on_and_any_other_says_what_it_needs() {
        let allowed = require(16).expect("a process has more");
        assert!(allowed >= 16);
        let error = require(u64::MAX).expect_err("nobody has so many");
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
