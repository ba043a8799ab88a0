"""Four weeks in which all was well, so that the windows of days and weeks are as full as those of a system that runs for long.

Without them a fault of some seconds would be most of what the window of three days holds, and use up the budget of all four weeks.
"""

import os
import subprocess
import time

# A replica that is gone: rules add up over instances, so it counts, and no rule takes it for one that is missing.
LABELS = 'job="multivac-api",instance="before"'
# Requests and data a second.
ASKED, FED, RETRACTED = 20, 10, 1
# In the steps of which windows of days are made up there were more, so that all faults of a run together do not use up the budget of
# a year, as they would, one after the other, at the rate of the load.
STEPS_TIMES = 10


def write(prometheus, factor):
    """Before Prometheus is started: rules run `factor` times as fast."""
    now = int(time.time())
    lines = []
    request = f"multivac_http_request_seconds_%s{{{LABELS},route=\"%s\",method=\"%s\",status=\"%s\"%s}}"
    counters = [
        (request % ("bucket", "/multivac", "GET", 200, ',le="0.25"'), ASKED),
        (request % ("bucket", "/multivac", "GET", 200, ',le="2.5"'), ASKED),
        (request % ("count", "/multivac", "GET", 200, ""), ASKED),
        (request % ("count", "/multivac/data", "POST", 200, ""), FED),
        (request % ("count", "/multivac/data/{id}", "DELETE", 204, ""), RETRACTED),
        (f'multivac_answerable_seconds_bucket{{{LABELS},le="30.0"}}', FED),
        (f"multivac_answerable_seconds_count{{{LABELS}}}", FED),
    ]
    for series, rate in counters:
        lines += samples(series, now, 7 * 3600 / factor, 60 / factor, lambda age, rate=rate: 1e7 - rate * age)
    for name, rate in [("ask", ASKED), ("feed", FED), ("answerable", FED), ("retraction", RETRACTED)]:
        for what, value in [("error_ratio", 0), ("events", rate * 300 / factor * STEPS_TIMES)]:
            lines += samples(f"multivac:{name}:{what}_5m", now, 28 * 86400 / factor, 300 / factor, lambda _, value=value: value)
    text = prometheus.data.parent / "history.txt"
    text.write_text("\n".join([*lines, "# EOF"]) + "\n")
    make = [os.environ["MULTIVAC_TEST_PROMTOOL"], "tsdb", "create-blocks-from", "openmetrics", "--quiet", text, prometheus.data]
    subprocess.run(make, check=True, capture_output=True, timeout=120)
    text.unlink()


def samples(series, now, length, step, value):
    for n in range(int(length / step), 0, -1):
        yield f"{series} {value(n * step):g} {now - n * step:.3f}" if value(0) == value(1) else f"{series} {value(n * step):.1f} {now - n * step:.3f}"
