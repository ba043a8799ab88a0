#!/usr/bin/env python3
"""The objectives, and the rules that watch over them: writes its part of rules.yml.

    deploy/monitoring/slo.py            writes rules.yml anew between its two marks
    deploy/monitoring/slo.py --check    changes nothing; 1 if rules.yml differs from what would be written

An objective says how many of the events of 28 days are good; the rest is the error budget. An alert says that the budget is
used up too fast, as chapter 5 of Google's SRE workbook has it ("Alerting on SLOs", multi-window, multi-burn-rate): in a long
window, so that it matters, and in a short one, so that it is over soon after the cause is. With the factors below, a page says
that 2 % of the budget went in an hour or 5 % in six, a ticket that 10 % went in a day or in three.

A long window with fewer than 100 events gives no alert: one slow question at night is no burn.

What each objective yields, for each cluster and namespace:
    multivac:NAME:events_WINDOW, multivac:NAME:error_ratio_WINDOW     absent while there is no event, never NaN
    multivac:NAME:burn_rate_WINDOW                                    1 uses up the budget of 28 days in 28 days
    multivac:NAME:budget_left_28d                                     1 untouched, 0 used up, below 0 overdrawn
    alerts NAMEBudgetBurn, as page and as ticket

What it needs   python3, nothing else.
"""

import pathlib
import sys
from dataclasses import dataclass

RULES = pathlib.Path(__file__).resolve().parent / "rules.yml"
BEGIN = "# --- written by slo.py: change it there "
END = "# --- end of what slo.py writes "

MIN_EVENTS = 100
BUDGET_WINDOW = "28d"
# Long window, short window, how many times faster than the budget allows, severity.
BURNS = [
    ("1h", "5m", 14.4, "page"),
    ("6h", "30m", 6, "page"),
    ("1d", "2h", 3, "ticket"),
    ("3d", "6h", 1, "ticket"),
]
# How long a burn must be seen. Causes that have an alert of their own are known by then.
FOR = {"page": "2m", "ticket": "10m"}
# These are read from the counters. Longer ones are summed in steps, of which each was read from the counters when it was over:
# the counters of three days are millions of samples.
READ_WINDOWS = ["5m", "30m", "1h", "2h", "6h"]
SUMMED_WINDOWS = {"1d": "30m", "3d": "1h", BUDGET_WINDOW: "1h"}
BY = "by (cluster, namespace)"


@dataclass(frozen=True)
class Objective:
    name: str
    percent: float
    events: str  # the counter of all events
    good: str  # and of the good ones
    bad: str  # what went wrong, after a percentage
    description: str
    # Parts of the system whose outage has an alert of its own (multivac:outage:* in rules.yml).
    causes: str

    @property
    def allowed(self):
        """The share of events that may be bad, as a rule writes it."""
        return f"{1 - self.percent / 100:.6f}".rstrip("0")

    @property
    def alert(self):
        return f"{self.name.capitalize()}BudgetBurn"


def requests(series, selector, *more):
    return f"multivac_http_request_seconds_{series}{{{','.join((selector, *more))}}}"


ASK = 'route="/multivac",method="GET"'
FEED = 'route=~"/multivac/data|/multivac/data/bulk",method="POST"'
RETRACT = 'route="/multivac/data/{id}",method="DELETE"'

OBJECTIVES = [
    Objective(
        name="ask",
        percent=99.9,
        events=requests("count", ASK),
        good=requests("bucket", ASK, 'status!~"5.."', 'le="0.25"'),
        bad="of the questions failed or took over 250 ms",
        description="Questions get an error, or their answers come too slowly",
        causes="store|api|ready",
    ),
    Objective(
        name="feed",
        percent=99.5,
        events=requests("count", FEED),
        good=requests("count", FEED, 'status!~"5.."'),
        bad="of the requests that fed data got a 5xx",
        description="Data are not taken; a refusal because the queue is full counts as well",
        causes="queue|api",
    ),
    Objective(
        name="answerable",
        percent=99,
        events="multivac_answerable_seconds_count",
        # 30, or 30.0 as OpenMetrics and Prometheus 3 write it.
        good='multivac_answerable_seconds_bucket{le=~"30|30.0"}',
        bad="of the data took over 30 s from accepted to answerable",
        description="Data are accepted and become answerable too late. What has not become so at all is not counted here: see Stuck",
        causes="queue|store|worker|api|ready",
    ),
    Objective(
        name="retraction",
        percent=99.9,
        events=requests("count", RETRACT, 'status=~"204|202|5.."'),
        good=requests("count", RETRACT, 'status="204"'),
        bad="of the retractions were not everywhere when their reply was sent",
        description="Retractions get 202 or an error in place of 204, so retracted data may still be in answers",
        causes="queue|store|api|ready",
    ),
]


def increase(counter, window):
    return f"sum {BY} (increase({counter}[{window}]))"


def read(objective, window):
    """The rules of a window that is read from the counters."""
    name = f"multivac:{objective.name}"
    events = f"{name}:events_{window}"
    yield events, increase(objective.events, window)
    # Where every event was bad there may be no series of good ones yet: that is 0 then, not unknown. Without events there is
    # no ratio: 0 / 0 would be NaN.
    good = f"({increase(objective.good, window)} or {events} * 0)"
    yield f"{name}:error_ratio_{window}", f"clamp_min(1 - {good} / ({events} > 0), 0)"
    yield from burn_rate(objective, window)


def summed(objective, window):
    """The rules of a window that is summed from steps."""
    name, step = f"multivac:{objective.name}", SUMMED_WINDOWS[window]
    events = f"{name}:events_{window}"
    yield events, f"sum_over_time({name}:events_{step}[{window}:{step}])"
    # A step without events has no ratio, and no errors.
    errors = f"sum_over_time(({name}:events_{step} * {name}:error_ratio_{step})[{window}:{step}])"
    yield f"{name}:error_ratio_{window}", f"({errors} or {events} * 0) / ({events} > 0)"
    yield from burn_rate(objective, window, step)
    if window == BUDGET_WINDOW:
        yield f"{name}:budget_left_{window}", f"1 - {name}:burn_rate_{window}"


def burn_rate(objective, window, step="5m"):
    """How many times faster than it may the budget is used up. The part of the window from before anything was known counts
    as good: else the first minute that goes wrong in a new system would have used up the budget of days."""
    name = f"multivac:{objective.name}"
    steps = minutes(window) // minutes(step)
    known = f" * clamp_max(count_over_time({name}:events_{step}[{window}:{step}]) / {steps}, 1)" if steps > 1 else ""
    yield f"{name}:burn_rate_{window}", f"{name}:error_ratio_{window} / {objective.allowed}{known}"


def minutes(window):
    return int(window[:-1]) * {"m": 1, "h": 60, "d": 1440}[window[-1]]


def burning(objective, long, short, factor):
    """One pair of windows, unless a part was out of action in the short one and has, or had, an alert of its own."""
    name = f"multivac:{objective.name}"
    causes = f'part=~"{objective.causes}"'
    return [
        f"{name}:error_ratio_{long}",
        f"and {name}:burn_rate_{long} > {factor}",
        f"and {name}:burn_rate_{short} > {factor}",
        f"and {name}:events_{long} >= {MIN_EVENTS}",
        "unless on (cluster, namespace)",
        f"  (multivac:outage:now{{{causes}}} == 1 or max_over_time(multivac:outage:held{{{causes}}}[{short}]) == 1)",
    ]


def alert(objective, severity):
    pairs = [burn for burn in BURNS if burn[3] == severity]
    lines = []
    for long, short, factor, _ in pairs:
        lines += [*(["or"] if lines else []), "(", *(f"  {line}" for line in burning(objective, long, short, factor)), ")"]
    longs = ", or ".join(f"over {long} {factor} times as fast as it may" for long, _, factor, _ in pairs)
    yield f"  - alert: {objective.alert}"
    yield "    expr: |-"
    yield from (f"      {line}" for line in lines)
    yield f"    for: {FOR[severity]}"
    yield f"    labels: {{severity: {severity}}}"
    yield "    annotations:"
    yield f"      summary: '{{{{ $value | humanizePercentage }}}} {objective.bad}; {float(objective.allowed) * 100:g}% may'"
    yield f"      description: '{objective.description}. The error budget is used up {longs}.'"
    yield f"      runbook_url: docs/operations.md#{objective.alert.lower()}"


def group(name, interval, rules):
    yield f"- name: {name}"
    yield f"  interval: {interval}"
    yield "  rules:"
    yield from rules


def records(pairs):
    for name, expression in pairs:
        yield f"  - record: {name}"
        # In single quotes, where a backslash is itself.
        yield f"    expr: '{expression}'"


def written():
    yield f"{BEGIN}---"
    reads = [rule for objective in OBJECTIVES for window in READ_WINDOWS for rule in read(objective, window)]
    sums = [rule for objective in OBJECTIVES for window in SUMMED_WINDOWS for rule in summed(objective, window)]
    severities = list(FOR)
    alerts = [line for objective in OBJECTIVES for severity in severities for line in alert(objective, severity)]
    yield from group("multivac-objectives", "30s", records(reads))
    yield from group("multivac-objectives-long", "1m", records(sums))
    yield from group("multivac-budgets", "30s", alerts)
    yield f"{END}---"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    now = RULES.read_text(encoding="utf-8")
    before, begin, rest = now.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"slo.py: {RULES} lacks the marks {BEGIN!r} and {END!r}")
    after = after.partition("\n")[2]
    new = before + "\n".join(written()) + "\n" + after
    if new == now:
        return
    if arguments:
        sys.exit("slo.py: rules.yml differs from the objectives; run deploy/monitoring/slo.py")
    RULES.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
