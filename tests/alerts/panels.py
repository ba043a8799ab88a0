"""Runs the query of every panel against the Prometheus of a system under load, as Grafana would."""

import json
import math
import time

from system import ROOT

DASHBOARDS = ROOT / "deploy/monitoring/grafana"
# What Grafana puts in place of its own variables and of ours, whose choice is "All".
WINDOW_SECONDS, RANGE_SECONDS = 20, 20
PARTS = {"$__rate_interval": f"{WINDOW_SECONDS}s", "$__range": "5m", "$namespace": ".*", "$instance": ".*", "$datasource": ""}


def queries(board):
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def problem(prometheus, query):
    """None, or what is wrong with what it shows of the last moments."""
    for name, value in PARTS.items():
        query = query.replace(name, value)
    now = time.time()
    try:
        series = prometheus.query_range(query, now - RANGE_SECONDS, now, RANGE_SECONDS // 10)
    except AssertionError as error:
        return str(error)
    if "$" in query:
        return f"a variable is left in {query}"
    if not any(not math.isnan(float(value)) for each in series for _, value in each["values"]):
        return f"it shows nothing: {query}" if not series else f"it shows nothing but NaN: {query}"


def try_all(prometheus, rule):
    boards = sorted(DASHBOARDS.glob("*.json"))
    rule("there are four dashboards", [] if len(boards) == 4 else [f"{len(boards)} in {DASHBOARDS}"])
    for path in boards:
        board = json.loads(path.read_text())
        asked = list(queries(board))
        wrong = [f"{title}: {found}" for title, query in asked if (found := problem(prometheus, query))]
        rule(f"{len(asked)} queries of {path.name} show something", wrong)
