//! What every process shows of itself under the names that Prometheus has for it:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>. On Linux alone, out of /proc.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// This process.
#[derive(Debug)]
pub(super) struct ThisProcess;

#[cfg(not(target_os = "linux"))]
impl Collector for ThisProcess {
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for ThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use procfs::process::Process;
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::counter::ConstCounter;
        use prometheus_client::metrics::gauge::ConstGauge;

        let Ok((stat, process)) = Process::myself().and_then(|process| Ok((process.stat()?, process))) else {
            return Ok(());
        };
        let cpu_seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        let counter = ConstCounter::new(cpu_seconds);
        counter.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "Seconds of processor time that this process has used.",
            None,
            counter.metric_type(),
        )?)?;
        let started = procfs::boot_time_secs()
            .ok()
            .map(|booted| booted as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64);
        let max_fds = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit as f64),
            procfs::process::LimitValue::Unlimited => None,
        });
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory that this process holds.",
                Some((stat.rss * procfs::page_size()) as f64),
            ),
            ("process_virtual_memory_bytes", "Addresses that it has reserved.", Some(stat.vsize as f64)),
            ("process_open_fds", "Files and connections that it has open.", process.fd_count().ok().map(|n| n as f64)),
            ("process_max_fds", "How many it may have open.", max_fds),
            ("process_threads", "Its threads.", Some(stat.num_threads as f64)),
            ("process_start_time_seconds", "When it was started, in seconds since 1970.", started),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
