//! A clock that nobody sets, and that goes on while a process or its machine is suspended.

use std::time::Duration;

/// The time since the machine was started.
///
/// It counts the time for which this process was stopped, and that for which the machine slept. A virtual machine that its
/// host has paused cannot know of that, unless the host tells it on resuming.
#[cfg(target_os = "linux")]
#[must_use]
pub fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The time since this function was called first, by the system's monotonic clock, which need not count what a machine
/// slept.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn since_boot() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static FIRST_CALL: LazyLock<Instant> = LazyLock::new(Instant::now);
    FIRST_CALL.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_and_never_back() {
        let first = since_boot();
        std::thread::sleep(Duration::from_millis(2));
        assert!(since_boot() > first);
    }
}
