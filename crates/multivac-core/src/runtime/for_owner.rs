//! Files and directories for their owner alone: made so, and restricted to that. Elsewhere than on Unix the system's own rules
//! apply.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::path::Path;

/// Makes a directory, and those above it.
pub(crate) fn directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Makes a file.
pub(crate) fn file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Takes away what others may do with a file or directory, but not through a link; whether there was anything.
#[cfg(unix)]
pub(crate) fn restrict(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;

    let there = std::fs::symlink_metadata(path)?;
    let mode = there.permissions().mode();
    if there.is_symlink() || mode & 0o077 == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode & 0o700))?;
    Ok(true)
}

#[cfg(not(unix))]
pub(crate) fn restrict(_: &Path) -> io::Result<bool> {
    Ok(false)
}
