//! Files that are written under another name until they are whole; and those of backups, kept for as long as they are wanted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;

use super::CommandError;
use crate::datum::DatumId;

/// How `export --directory` names its files: in the order of their names they are in the order of their times.
const PREFIX: &str = "multivac-";
const SUFFIX: &str = ".ndjson.gz";

/// What is in the name of a file that is not whole.
const PARTIAL: &str = ".partial-";

/// After how long such a file is left over from a process that was killed.
const LEFT_OVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The name of a backup that is made now in a directory: of the first second from now on that has none.
#[must_use]
pub fn new_name(directory: &Path) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let mut at = OffsetDateTime::now_utc();
    loop {
        let name = format!("{PREFIX}{}{SUFFIX}", at.format(format).unwrap_or_default());
        if !directory.join(&name).exists() {
            return name;
        }
        at += Duration::from_secs(1);
    }
}

/// A file that has another name until it is whole, and is removed if that never comes.
pub struct Draft {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    replace: bool,
    kept: bool,
}

impl Draft {
    /// It will have this name, and replaces what has it only if that is wanted.
    ///
    /// # Errors
    /// When it cannot be made, or there is one.
    pub fn new(path: &Path, replace: bool) -> Result<Self, CommandError> {
        let failed = |source| CommandError::File { path: path.to_owned(), source };
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if path.exists() && !replace {
            return Err(CommandError::Exists(path.to_owned()));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!("{PARTIAL}{}", DatumId::generate()));
        let partial = PathBuf::from(partial);
        let mut options = File::options();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.read(true).write(true).create_new(true).open(&partial).map_err(failed)?;
        Ok(Self { path: path.to_owned(), partial, file, replace, kept: false })
    }

    /// To write to, and to read what was written.
    ///
    /// # Errors
    /// When the system has no file to give.
    pub fn file(&self) -> Result<File, CommandError> {
        self.file.try_clone().map_err(|error| self.failed(error))
    }

    /// It is whole: on the disk, and then under its name.
    ///
    /// # Errors
    /// When it cannot be kept; then there is none of its name.
    pub fn keep(mut self) -> Result<(), CommandError> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        if !self.replace && self.path.exists() {
            return Err(CommandError::Exists(self.path.clone()));
        }
        fs::rename(&self.partial, &self.path).map_err(|error| self.failed(error))?;
        self.kept = true;
        // The name, too. Where a directory cannot be opened the system sees to that itself.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(parent) {
            Ok(directory) => directory.sync_all().map_err(|error| self.failed(error)),
            Err(_) => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> CommandError {
        CommandError::File { path: self.path.clone(), source }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// The whole files of a directory, oldest first; others are none of ours.
fn all(directory: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |source| CommandError::File { path: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let is_ours = |name: &str| {
        let time = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
        time.is_some_and(|time| time.len() == 16 && time.chars().all(|c| c.is_ascii_digit() || matches!(c, 'T' | 'Z')))
    };
    let ours = entries.iter().filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    let mut files: Vec<PathBuf> = ours.map(fs::DirEntry::path).collect();
    files.sort();
    Ok(files)
}

pub(super) fn newest(directory: &Path) -> Result<PathBuf, CommandError> {
    all(directory)?.pop().ok_or_else(|| CommandError::NoBackup(directory.to_owned()))
}

/// Removes all but the newest `keep`, and what killed processes have left of theirs; says which.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_older(directory: &Path, keep: usize) -> Result<Vec<PathBuf>, CommandError> {
    let mut files = all(directory)?;
    files.truncate(files.len().saturating_sub(keep));
    let left_over = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let modified = fs::metadata(path).and_then(|file| file.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        name.starts_with(PREFIX) && name.contains(PARTIAL) && age.is_some_and(|age| age > LEFT_OVER)
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(entries.filter(|path| left_over(path)));
    for file in &files {
        fs::remove_file(file).map_err(|source| CommandError::File { path: file.clone(), source })?;
    }
    Ok(files)
}
