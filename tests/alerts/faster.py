"""Rules and routes by a clock that runs faster, so that a run of CI sees in seconds what takes minutes.

Every duration is divided by the same factor: ranges, offsets, `for`, intervals, and the figures that a queue's age or an index's lag
is compared with. So windows and what happens in them keep their proportions. What is not divided is what the programs themselves
take: their time-outs (some seconds), the lease (which a setting shortens), the days of a certificate, and the buckets of histograms.
Four differences remain, all so that nothing fires that would not fire at the full time: a range is never shorter than five
scrapes; a reply counts as slow from 2.5 s on rather than from 250 ms, since the machine of a short run has no rest between the
faults; and the edge is given ten seconds to see a replica that is ready again, since it looks every two; and disks are left
alone, since others write to this machine's.
"""

import re

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
# Gauges of how long something has been waiting, and what they are compared with.
WAITING = r"(multivac_(?:queue_oldest|index_lag)_seconds\b[^\n<>]*?[<>]=?\s*)(\d+)\b"


def seconds(duration):
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def spelled(length):
    milliseconds = max(round(length * 1000), 1)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def faster(text, factor, scrape):
    """rules.yml or alertmanager.yml, `factor` times as fast, for a Prometheus that scrapes every `scrape` seconds."""
    if factor == 1:
        return text
    shorter = lambda duration, least=0: spelled(max(seconds(duration) / factor, least))  # noqa: E731

    def of_range(found):
        whole, step = found[1], found[2]
        return f"[{shorter(whole, 5 * scrape)}{':' + shorter(step, scrape) if step else ':' if ':' in found[0] else ''}]"

    text = re.sub(rf"\[({DURATION})(?::({DURATION})?)?\]", of_range, text)
    text = re.sub(rf"\b(offset\s+)({DURATION})", lambda found: found[1] + shorter(found[2]), text)
    keys = "for|keep_firing_for|interval|group_wait|group_interval|repeat_interval|resolve_timeout"
    text = re.sub(
        rf"^(\s*(?:- )?(?:{keys}):\s*[\"']?)({DURATION})", lambda found: found[1] + shorter(found[2]), text, flags=re.MULTILINE
    )
    text = re.sub(r"(alert: EdgeNoReplica\n(?:.*\n)*?\s+for: )\S+", r"\g<1>10s", text)
    text = re.sub(r"(alert: DiskFilling\n(?:.*\n)*?\s+for: )\S+", r"\g<1>1d", text)
    text = re.sub(WAITING, lambda found: f"{found[1]}{int(found[2]) / factor:g}", text)
    return re.sub(r"(le=\\?[\"'])0\.25(\\?[\"'])", r"\g<1>2.5\2", text)
