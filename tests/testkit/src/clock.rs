//! A wall clock that a test sets forward and back under a real program.
//!
//! A library of a few lines of C is put before the system's (`LD_PRELOAD`) and adds an offset, which it reads from a file each
//! time, to the time of day. Monotonic clocks go on as they do when somebody sets a real clock. (libfaketime does the same, and
//! cannot be used: it allocates memory to read its file, and Redis's allocator asks for the time.)

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("MULTIVAC_TEST_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (found == MAP_FAILED) abort();
    ahead = found;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int error = syscall(SYS_clock_gettime, clock, time);
    if (!error && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += *ahead;
    return error;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int error = syscall(SYS_gettimeofday, time, zone);
    if (!error && ahead && time) time->tv_sec += *ahead;
    return error;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
"#;

/// The clock of whatever programs are started with it.
pub struct Clock {
    offset: File,
    directory: TempDir,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let offset =
            File::options().create(true).truncate(true).write(true).open(directory.path().join("offset")).unwrap();
        offset.set_len(8).unwrap();
        let source = directory.path().join("clock.c");
        std::fs::write(&source, LIBRARY).unwrap();
        // The compiler is there, since Rust links with it.
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(directory.path().join("clock.so")).arg(&source);
        assert!(compile.status().unwrap().success(), "{compile:?}");
        Self { offset, directory }
    }

    /// Sets it so many seconds ahead of the real one, or behind it.
    pub fn set_ahead(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// What a program's environment needs to see this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        let file = |name| self.directory.path().join(name);
        [("LD_PRELOAD", file("clock.so")), ("MULTIVAC_TEST_CLOCK", file("offset"))]
    }

    /// A program that starts another one under this clock, with the same arguments.
    pub fn under(&self, program: &Path) -> PathBuf {
        let path = self.directory.path().join(program.file_name().unwrap());
        let mut script = File::create(&path).unwrap();
        writeln!(script, "#!/bin/sh").unwrap();
        for (name, value) in self.environment() {
            writeln!(script, "export {name}='{}'", value.display()).unwrap();
        }
        writeln!(script, "exec '{}' \"$@\"", program.display()).unwrap();
        script.set_permissions(Permissions::from_mode(0o700)).unwrap();
        path
    }
}
