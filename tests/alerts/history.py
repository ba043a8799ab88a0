"""Four weeks in which all was well, so that the windows of days and weeks are as full as those of a system that runs for long.

Without them a fault of some seconds would be most of what the window of three days holds, and use up the budget of all four weeks.
"""

import os
import re
import subprocess
import time

from faster import seconds

# A replica that is gone: rules add up over instances, so it counts, and no rule takes it for one that is missing.
LABELS = 'job="multivac-api",instance="before"'
# Requests and data a second.
ASKED, FED, RETRACTED = 20, 10, 1
RATES = {"ask": ASKED, "feed": FED, "answerable": FED, "retraction": RETRACTED}
# In what windows of days are summed up from there were more, so that all faults of a run together do not use up the budget of a
# year, as they would, one after the other, at the rate of the load.
STEPS_TIMES = 10


def write(prometheus, rules, factor):
    """Before Prometheus is started: `rules`, a text, run `factor` times as fast."""
    lines = []
    request = f'multivac_http_request_seconds_%s{{{LABELS},route="%s",method="%s",status="%s"%s}}'
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
        lines += samples(series, 7 * 3600 / factor, 60 / factor, lambda at, rate=rate: rate * at)
    for name, objective, what, window in re.findall(r"record: (multivac:(\w+):(events|error_ratio)_(\d+[mh]))$", rules, re.MULTILINE):
        events = RATES[objective] * seconds(window) / factor * STEPS_TIMES if what == "events" else 0
        lines += samples(name, 28 * 86400 / factor, min(seconds(window), 3600) / factor, lambda _, events=events: events)
    text = prometheus.data.parent / "history.txt"
    text.write_text("\n".join([*lines, "# EOF"]) + "\n")
    make = [os.environ["MULTIVAC_TEST_PROMTOOL"], "tsdb", "create-blocks-from", "openmetrics", "--quiet", text, prometheus.data]
    subprocess.run(make, check=True, capture_output=True, timeout=120)
    text.unlink()


def samples(series, length, step, value):
    """One at each multiple of `step`, where subqueries look."""
    last = int(time.time() / step)
    for n in range(last - int(length / step), last + 1):
        yield f"{series} {value(n * step):.1f} {n * step:.3f}"
