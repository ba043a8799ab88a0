"""A MultiVAC as Prometheus sees it, as the input of `promtool test rules`: a healthy one, and what befalls it.

Time goes in ticks of 30 seconds, which is how often Prometheus asks; cases count in minutes.
"""

import itertools
import json

TICK = 0.5  # minutes
STALE = "stale"  # what Prometheus notes for a series that it no longer gets
GAP = "_"

STATES = ("accepted", "queued", "processing", "learned", "retracted", "dead")
PORTS = {"api": 5000, "worker": 5001, "edge": 9113}
# Requests of each kind a tick, for each api replica: so many that a hundredth of each budget is a whole number.
TRAFFIC = 2000
ASK = {"route": "/multivac", "method": "GET"}
FEED = {"route": "/multivac/data", "method": "POST"}
BULK = {"route": "/multivac/data/bulk", "method": "POST"}
RETRACT = {"route": "/multivac/data/{id}", "method": "DELETE"}


class Target:
    """One process that is scraped."""

    def __init__(self, minutes, program, number, namespace):
        self.minutes, self.program = minutes, program
        self.instance = f"{program}-{number}:{PORTS[program]}"
        self.labels = {"job": program, "instance": self.instance} | ({"namespace": namespace} if namespace else {})
        self.up = [1] * self.ticks  # 1, 0, or GAP while it is no target
        self.gauges = {}  # the value at each tick; GAP while it is unknown
        self.counters = {}  # by how much it grows at each tick
        getattr(self, f"healthy_{program}")()

    @property
    def ticks(self):
        return round(self.minutes / TICK) + 1

    def between(self, start, end):
        return range(round(start / TICK), self.ticks if end is None else min(self.ticks, round(end / TICK)))

    def key(self, name, labels):
        return name, tuple(sorted({**self.labels, **labels}.items()))

    def set(self, name, value, start=0, end=None, **labels):
        """A gauge from one minute to another; a function of the minutes since `start` gives one that changes."""
        values = self.gauges.setdefault(self.key(name, labels), [GAP] * self.ticks)
        for tick in self.between(start, end):
            values[tick] = value((tick - round(start / TICK)) * TICK) if callable(value) else value

    def unknown(self, name, start, end=None):
        """The gauges of this name are absent, since what they tell is not known."""
        for (other, labels), _ in list(self.gauges.items()):
            if other == name:
                self.set(name, GAP, start, end, **dict(labels))

    def count(self, name, per_tick, start=0, end=None, **labels):
        """A counter that grows by so much a tick within that time."""
        growth = self.counters.setdefault(self.key(name, labels), [0] * self.ticks)
        for tick in self.between(start, end):
            growth[tick] = per_tick

    def requests(self, request, status, per_tick, start=0, end=None, slow=False):
        """So many requests a tick get this status, in time or too late."""
        name, labels = "multivac_http_request_seconds", {**request, "status": str(status)}
        self.count(f"{name}_count", per_tick, start, end, **labels)
        self.count(f"{name}_bucket", 0 if slow else per_tick, start, end, le="0.25", **labels)

    def answerable(self, per_tick, start=0, end=None, late=0):
        """So many data a tick become answerable, and so many of them too late."""
        self.count("multivac_answerable_seconds_count", per_tick, start, end)
        self.count("multivac_answerable_seconds_bucket", per_tick - late, start, end, le="30.0")

    def down(self, start, end=None):
        """It does not answer. It comes back with counters at 0."""
        for tick in self.between(start, end):
            self.up[tick] = 0

    def gone(self, start, end=None):
        """It is no target any more, as when a pod is removed, or not yet."""
        for tick in self.between(start, end):
            self.up[tick] = GAP

    # --- a healthy one ---

    def healthy_process(self):
        self.set("multivac_build_info", 1, program=self.program, version="0.3.0", revision="0123abc")
        self.set("multivac_ready", 1)
        for backend in ("queue", "store"):
            self.set("multivac_reachable", 1, backend=backend)
        for state in STATES:
            self.set("multivac_data", {"accepted": 100, "learned": 100}.get(state, 0), state=state)
        self.set("multivac_queue_warnings", 0)
        self.set("multivac_queue_server_memory_bytes", 100)
        self.set("multivac_queue_server_memory_max_bytes", 1000)
        self.set("multivac_disk_free_bytes", 500, disk="store")
        self.set("multivac_disk_size_bytes", 1000, disk="store")
        for kind in ("backup", "drill"):
            # After all cases, which begin in 1970.
            self.set("multivac_backup_completed_timestamp_seconds", 10**9, kind=kind)
        self.count("multivac_lost_total", 0)

    def healthy_api(self):
        self.healthy_process()
        self.set("multivac_queue_oldest_seconds", 0)
        self.set("multivac_disk_free_bytes", 500, disk="index")
        self.set("multivac_disk_size_bytes", 1000, disk="index")
        self.set("multivac_index_unwritable", 0)
        self.set("multivac_fenced", 0)
        self.count("multivac_index_follow_errors_total", 0)
        self.count("multivac_refused_total", 0)
        self.requests(ASK, 200, TRAFFIC)
        self.requests(FEED, 200, TRAFFIC // 2)
        self.requests(BULK, 200, TRAFFIC // 2)
        self.requests(RETRACT, 204, TRAFFIC)
        # What is there from the first scrape, so that the first of them counts.
        self.requests(ASK, 503, 0)
        self.requests(FEED, 503, 0)
        self.requests(RETRACT, 503, 0)
        self.requests(RETRACT, 202, 0)
        self.answerable(TRAFFIC)

    def healthy_worker(self):
        self.healthy_process()
        self.count("multivac_leases_expired_total", 0)
        self.set("multivac_consumer_loops", 2)

    def healthy_edge(self):
        self.count("multivac_edge_reloads_total", 0)
        self.set("multivac_edge_replicas", 2, state="ready")
        self.set("multivac_edge_replicas", 0, state="unready")
        self.set("multivac_edge_certificate_expires_seconds", 90 * 86400)

    # --- as Prometheus stores it ---

    def series(self):
        yield self.key("up", {}), ended(self.up)
        for key, values in self.gauges.items():
            yield key, ended([value if up == 1 else GAP for value, up in zip(values, self.up)])
        for key, growth in self.counters.items():
            values, value = [], None
            for grown, up in zip(growth, self.up):
                # A process that starts has counters at 0.
                value = None if up != 1 else 0 if value is None else value + grown
                values.append(GAP if value is None else value)
            yield key, ended(values)


class System:
    """All targets of one MultiVAC."""

    def __init__(self, minutes, *, apis=2, workers=2, edges=1, namespace="shop"):
        self.minutes = minutes
        self.apis = [Target(minutes, "api", number + 1, namespace) for number in range(apis)]
        self.workers = [Target(minutes, "worker", number + 1, namespace) for number in range(workers)]
        self.edges = [Target(minutes, "edge", number + 1, namespace) for number in range(edges)]

    @property
    def processes(self):
        return self.apis + self.workers

    @property
    def targets(self):
        return self.processes + self.edges

    def each(self, name, value, start=0, end=None, **labels):
        """A gauge of all targets that have it."""
        for target in self.targets:
            if target.key(name, labels) in target.gauges:
                target.set(name, value, start, end, **labels)

    def input(self):
        for target in self.targets:
            yield from target.series()


def ended(values):
    """Prometheus notes once that a series has ended."""
    return [
        STALE if value == GAP and tick > 0 and values[tick - 1] != GAP else value for tick, value in enumerate(values)
    ]


def selector(key):
    name, labels = key
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in labels)}}}"


def notation(values):
    """What promtool calls the values of a series: runs of the same step as `start+stepxtimes`."""
    words, tick = [], 0
    while tick < len(values):
        if values[tick] in (STALE, GAP):
            words.append(values[tick])
            tick += 1
            continue
        run = list(itertools.takewhile(lambda value: value not in (STALE, GAP), values[tick:]))
        times, step = 0, run[1] - run[0] if len(run) > 1 else 0
        while times + 1 < len(run) and run[times + 1] - run[times] == step:
            times += 1
        words.append(f"{run[0]:.12g}{step:+.12g}x{times}" if times else f"{run[0]:.12g}")
        tick += times + 1
    return " ".join(words)
