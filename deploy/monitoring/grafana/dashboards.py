#!/usr/bin/env python3
"""Grafana's dashboards: writes overview.json, pipeline.json, answers.json and edge.json beside itself.

    deploy/monitoring/grafana/dashboards.py            writes them anew
    deploy/monitoring/grafana/dashboards.py --check    changes nothing; 1 if a file differs or a rule below is broken

A panel is one line here, where a JSON file has fifty, so that all have the same form: a description, a unit, a legend, and the
datasource of the variable `datasource` (an import of `${DS_PROMETHEUS}` breaks where dashboards are provisioned from files:
grafana/grafana#10786). Any labels of targets will do: the variable `namespace` takes all where no target has one.

scripts/alerts.sh runs every query against a real Prometheus and fails where one fails or is empty. So a figure that is rightly
absent, such as alerts while all is well, ends in `or vector(0)`.

What it needs   python3, nothing else. For Grafana 11 and newer.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
RULES, METRICS = HERE.parent / "rules.yml", HERE.parents[2] / "docs/metrics.md"
# What Grafana 11.0 writes; newer ones read it.
SCHEMA = 39
WIDTH = 24
UNITS = {"percentunit", "s", "d", "short", "bytes", "reqps", "ops", "none", "bool", "bool_yes_no", "percent"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# The selectors: of the whole MultiVAC, and of the processes that are chosen.
ALL = 'namespace=~"$namespace"'
EACH = 'namespace=~"$namespace",instance=~"$instance"'

GREEN, AMBER, RED = "green", "orange", "red"


def steps(*above, base=GREEN):
    """Colours from figures on: steps((1, AMBER), (6, RED))."""
    return [{"color": base, "value": None}, *({"color": colour, "value": value} for value, colour in above)]


PLAIN = steps(base="blue")
BAD_IF_ANY = steps((1, RED))
BAD_IF_NONE = steps((1, GREEN), base=RED)
BUDGET = steps((0, AMBER), (0.25, GREEN), base=RED)


def panel(kind, title, description, unit, queries, size=(6, 7), thresholds=PLAIN, stack=False, least=None, most=None, decimals=None):
    """`queries` are pairs of an expression and a legend."""
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": thresholds}, "custom": {}}
    for name, value in (("min", least), ("max", most), ("decimals", decimals)):
        if value is not None:
            defaults[name] = value
    if kind == "timeseries":
        options = {
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if stack else 8, "showPoints": "never", "spanNulls": False,
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if thresholds is PLAIN else "dashed"},
        }  # fmt: skip
    elif kind == "stat":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "orientation": "auto",
        }  # fmt: skip
        defaults["color"] = {"mode": "thresholds"}
    elif kind == "state-timeline":
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single"}, "mergeValues": True, "rowHeight": 0.8, "showValue": "never",
        }  # fmt: skip
        defaults["color"] = {"mode": "thresholds"}
        defaults["custom"] = {"fillOpacity": 70, "lineWidth": 0}
    targets = [
        {"datasource": DATASOURCE, "editorMode": "code", "expr": expression, "legendFormat": legend, "range": True,
         "instant": False, "refId": "ABCDEFGH"[place]}
        for place, (expression, legend) in enumerate(queries)
    ]  # fmt: skip
    return {
        "type": kind, "title": title, "description": description, "datasource": DATASOURCE, "size": size,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "targets": targets,
    }  # fmt: skip


def line(title, description, unit, *queries, **more):
    return panel("timeseries", title, description, unit, queries, more.pop("size", (8, 8)), **more)


def stat(title, description, unit, *queries, **more):
    return panel("stat", title, description, unit, queries, more.pop("size", (4, 4)), **more)


def states(title, description, *queries, **more):
    return panel("state-timeline", title, description, "bool_yes_no", queries, more.pop("size", (12, 7)), **more)


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "size": (WIDTH, 1)}


def rate(metric, by="", where=EACH, labels=""):
    """Events a second, added up."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}{',' + labels if labels else ''}}}[$__rate_interval]))"


def quantiles(metric, where=EACH, labels=""):
    more = "," + labels if labels else ""
    return [
        (f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{where}{more}}}[$__rate_interval])))", name)
        for q, name in ((0.5, "half within"), (0.95, "95 % within"), (0.99, "99 % within"))
    ]


def newest(metric, by="", where=EACH, labels=""):
    """A figure of which every replica knows the same, in the eyes of the one with the highest."""
    return f"max{f' by ({by})' if by else ''} ({metric}{{{where}{',' + labels if labels else ''}}})"


ASK, FEED = 'route="/multivac",method="GET"', 'route=~"/multivac/data|/multivac/data/bulk",method="POST"'
GOOD_ASK = ASK + ',status!~"5..",le="0.25"'
# Name of the records (slo.py), what it is about, promise.
OBJECTIVES = [
    ("ask", "Questions", "99.9 % of the questions get an answer, not a 5xx, within 250 ms"),
    ("feed", "Feeding", "99.5 % of the requests that feed get no 5xx; a refusal counts as one"),
    ("answerable", "Answerable in 30 s", "99 % of the data are answerable within 30 s of being accepted, in each replica"),
    ("retraction", "Retractions", "99.9 % of the retractions are true everywhere when they are confirmed (204)"),
]


def overview():
    yield row("Objectives, over 28 days")
    for name, title, promise in OBJECTIVES:
        yield stat(f"{title}: budget left", f"{promise}. 100 %: untouched; 0 %: used up; below: the promise is broken.",
                   "percentunit", (f"min (multivac:{name}:budget_left_28d{{{ALL}}})", title), size=(6, 4), thresholds=BUDGET, decimals=1)  # fmt: skip
    yield line("How fast the budgets are used up", "Bad events of the last hour, as a multiple of what the budget allows: at 1 it lasts exactly "
               "28 days. 14.4 wakes somebody.", "none",
               *[(f"max (multivac:{name}:burn_rate_1h{{{ALL}}})", title) for name, title, _ in OBJECTIVES],
               size=(12, 8), thresholds=steps((1, AMBER), (14.4, RED)), least=0)  # fmt: skip
    yield line("Bad events of the last five minutes", "The share of events that broke their promise.", "percentunit",
               *[(f"max (multivac:{name}:error_ratio_5m{{{ALL}}})", title) for name, title, _ in OBJECTIVES],
               size=(12, 8), least=0)  # fmt: skip
    yield row("The ledger: accepted = queued + processing + learned + retracted + dead")
    for state, what, colours in [
        ("accepted", "All data that got a 200.", PLAIN),
        ("learned", "In the store, and in the index of the replica that says so.", PLAIN),
        ("queued", "Accepted, and no consumer has them.", PLAIN),
        ("processing", "Leased by a consumer, or stored and not in the index yet.", PLAIN),
        ("retracted", "Taken back for good.", PLAIN),
        ("dead", "Given up after their attempts, and kept with their errors: see Dead letters in docs/operations.md.", BAD_IF_ANY),
    ]:
        yield stat(state.capitalize(), what, "short", (newest("multivac_data", where=ALL, labels=f'state="{state}"'), state), thresholds=colours)
    yield line("Data by state", "The states of the ledger that change while data flow.", "short",
               (newest("multivac_data", "state", ALL, 'state=~"queued|processing|retracted|dead"'), "{{state}}"), size=(12, 7), least=0)  # fmt: skip
    yield line("By how much the ledger is off", "0, or data are lost or counted twice (LedgerUnbalanced).", "short",
               (f"max (multivac:data:imbalance{{{ALL}}})", "difference"), size=(12, 7), thresholds=BAD_IF_ANY, least=0)  # fmt: skip
    yield row("Alerts and parts")
    firing = f'ALERTS{{alertstate="firing",severity="%s",{ALL}}}'
    yield stat("Pages now", "Alerts that wake somebody.", "short", (f"count ({firing % 'page'}) or vector(0)", "pages"), thresholds=BAD_IF_ANY)
    yield stat("Tickets now", "Alerts that wait for the morning.", "short", (f"count ({firing % 'ticket'}) or vector(0)", "tickets"),
               thresholds=steps((1, AMBER)))  # fmt: skip
    yield line("Alerts that fire", "Each alert by its name: docs/operations.md has a heading for each.", "short",
               (f'count by (alertname, severity) (ALERTS{{alertstate="firing",{ALL}}}) or vector(0)', "{{alertname}} {{severity}}"),
               size=(16, 8), stack=True, least=0)  # fmt: skip
    yield states("Ready", "Whether each process takes requests or jobs, by its /readyz.",
                 (f"multivac_ready{{{ALL}}}", "{{job}} {{instance}}"), thresholds=BAD_IF_NONE)  # fmt: skip
    yield states("Parts out of action", "A backend that nobody reaches, a program of which no process is seen, or no ready replica.",
                 (f"multivac:outage:now{{{ALL}}}", "{{part}}"), thresholds=BAD_IF_ANY)  # fmt: skip
    yield line("Versions", "How many processes run which version; more than one only while a new one is rolled out.", "short",
               (f"count by (program, version, revision) (multivac_build_info{{{ALL}}})", "{{program}} {{version}} {{revision}}"),
               size=(12, 7), least=0)  # fmt: skip
    yield line("Running for", "Since each process started.", "s",
               (f"time() - (process_start_time_seconds{{{ALL}}} and on (job, instance) multivac_build_info)", "{{job}} {{instance}}"),
               size=(12, 7), least=0)  # fmt: skip


def pipeline():
    yield row("Feeding")
    yield line("Accepted", "New data; and those that came again with their Idempotency-Key, which are none.", "ops",
               (rate("multivac_accepted_total"), "new"), (rate("multivac_accepted_again_total"), "again"), least=0)  # fmt: skip
    yield line("Not accepted", "Requests or data that were not taken, by reason. `full` asks for more workers, or for room.", "ops",
               (rate("multivac_accept_failures_total", "reason"), "{{reason}}"), (rate("multivac_refused_total"), "data without room"),
               least=0)  # fmt: skip
    yield line("Time to accept", "From a request that feeds to its reply.", "s", *quantiles("multivac_http_request_seconds", labels=FEED), least=0)
    yield row("The queue")
    yield line("Unfinished, and the limit", "Data that are queued or being learned. At the limit feeding gets 503.", "short",
               (newest("multivac_queue_unfinished"), "unfinished"), (f"min (multivac_queue_limit{{{EACH}}})", "limit"), least=0)  # fmt: skip
    yield line("Their text, and the limit", "Bytes of the unfinished data. At the limit feeding gets 503.", "bytes",
               (newest("multivac_queue_bytes"), "unfinished"), (f"min (multivac_queue_limit_bytes{{{EACH}}})", "limit"), least=0)  # fmt: skip
    yield line("Age of the oldest", "How long the oldest unfinished datum has waited. Five minutes wake somebody (Stuck).", "s",
               (newest("multivac_queue_oldest_seconds"), "oldest"), thresholds=steps((60, AMBER), (300, RED)), least=0)  # fmt: skip
    yield line("In and out", "What is accepted, and what leaves the queue. If the first stays above, the queue grows.", "ops",
               (rate("multivac_accepted_total"), "in"), (newest("multivac_queue_drained_per_second"), "out"), least=0)  # fmt: skip
    yield line("Redis's memory", "Used, and its limit (maxmemory) where it has one. At the limit feeding gets 503.", "bytes",
               (newest("multivac_queue_server_memory_bytes"), "used"),
               (f"min (multivac_queue_server_memory_max_bytes{{{EACH}}})", "limit"), least=0)  # fmt: skip
    yield line("Settings of Redis that can lose data", "An eviction policy, or no append-only file; /readyz names them.", "short",
               (newest("multivac_queue_warnings"), "warnings"), thresholds=BAD_IF_ANY, least=0)  # fmt: skip
    yield row("Learning")
    yield line("Learned", "Jobs that were completed, and those of them whose datum had been retracted.", "ops",
               (rate("multivac_learned_total"), "learned"), (rate("multivac_learned_retracted_total"), "retracted before"), least=0)  # fmt: skip
    yield line("Failed", "Attempts that failed, jobs that were given up, and leases that ran out.", "ops",
               (rate("multivac_failed_attempts_total"), "failed attempts"), (rate("multivac_dead_total"), "dead letters"),
               (rate("multivac_leases_expired_total"), "leases that ran out"), least=0)  # fmt: skip
    yield line("Accepted to learned", "From accepting a datum to its being stored.", "s", *quantiles("multivac_learn_seconds"), least=0)
    yield line("Accepted to answerable", "From accepting a datum to its being in the index of a replica. The promise is 99 % within 30 s.", "s",
               *quantiles("multivac_answerable_seconds"), thresholds=steps((30, RED)), least=0)  # fmt: skip
    yield line("Busy consumer loops", "The share of the loops that have a batch. Near 100 %, more workers or loops (`--concurrency`) help.",
               "percentunit", (f"sum (multivac_consumer_loops_busy{{{EACH}}}) / sum (multivac_consumer_loops{{{EACH}}})", "busy"),
               least=0, most=1)  # fmt: skip
    yield line("Leases", "Jobs that each process holds.", "short", (f"multivac_leases{{{EACH}}}", "{{instance}}"), least=0)
    yield line("Batch sizes", "How many jobs are learned together; the more of them wait, the more.", "short",
               (f"sum (rate(multivac_batch_data_sum{{{EACH}}}[$__rate_interval])) / "
                f"sum (rate(multivac_batch_data_count{{{EACH}}}[$__rate_interval]))", "mean"), least=0)  # fmt: skip
    yield line("Batches that wait for the store", "MongoDB does not reply, or cannot take them now.", "short",
               (f"sum (multivac_store_waiting{{{EACH}}})", "waiting"), thresholds=BAD_IF_ANY, least=0)  # fmt: skip
    yield row("The backends")
    yield states("In reach", "Whether each process reaches the queue and the store.",
                 (f"multivac_reachable{{{EACH}}}", "{{backend}} from {{job}} {{instance}}"), size=(16, 8), thresholds=BAD_IF_NONE)  # fmt: skip
    yield line("Calls that failed", "Each is a line of the log of the process that made it.", "ops",
               (rate("multivac_queue_errors_total"), "queue"), (rate("multivac_store_errors_total"), "store"), least=0)  # fmt: skip
    yield line("Lost data", "Accepted data whose jobs were found to be gone (DataLost), within an hour.", "short",
               (f"sum (increase(multivac_lost_total{{{EACH}}}[1h]))", "lost"), thresholds=BAD_IF_ANY, least=0, size=(12, 7))  # fmt: skip
    yield line("Free room on the disks", "Of the store, and of the directories that hold the replicas' indexes.", "percentunit",
               (f"min by (disk) (multivac_disk_free_bytes{{{EACH}}} / multivac_disk_size_bytes{{{EACH}}})", "{{disk}}"),
               thresholds=steps((0.1, AMBER), (0.2, GREEN), base=RED), least=0, most=1, size=(12, 7))  # fmt: skip


def answers():
    yield row("Questions")
    yield line("Questions", "By how they came out: answered, not enough data, or refused by a replica that is fenced.", "reqps",
               (rate("multivac_answers_total", "status"), "{{status}}"), stack=True, least=0)  # fmt: skip
    yield line("Time to reply", "From a question to its reply, as the api sees it. The promise is 99.9 % within 250 ms.", "s",
               *quantiles("multivac_http_request_seconds", labels=ASK), thresholds=steps((0.25, RED)), least=0)  # fmt: skip
    yield line("Time to answer", "Of it, the search for the answer.", "s", *quantiles("multivac_answer_seconds"), least=0)
    yield line("Without an answer", "The share of questions that the data do not answer.", "percentunit",
               (rate("multivac_answers_total", labels='status="insufficient_data"') + " / " + rate("multivac_answers_total"), "insufficient data"), least=0, most=1)  # fmt: skip
    yield line("Slow or failed", "The share of questions that broke the promise: a 5xx, or over 250 ms.", "percentunit",
               (f"1 - {rate('multivac_http_request_seconds_bucket', labels=GOOD_ASK)} / {rate('multivac_http_request_seconds_count', labels=ASK)}", "bad"),
               thresholds=steps((0.001, AMBER), (0.0144, RED)), least=0)  # fmt: skip
    yield line("Requests by status", "Of all routes.", "reqps", (rate("multivac_http_request_seconds_count", "status"), "{{status}}"),
               stack=True, least=0)  # fmt: skip
    yield row("Retractions")
    yield line("Retractions", "Confirmed by every replica (204), pending (202), or failed.", "ops",
               (rate("multivac_retractions_total", "outcome"), "{{outcome}}"), stack=True, least=0, size=(12, 8))  # fmt: skip
    yield line("Time to retract", "From a DELETE to its reply, which waits for every replica.", "s",
               *quantiles("multivac_http_request_seconds", labels='route="/multivac/data/{id}",method="DELETE"'), least=0, size=(12, 8))  # fmt: skip
    yield row("The index of each replica")
    each = "{{instance}}"
    yield line("Passages", "What is searched. The replicas differ for moments only.", "short", (f"multivac_index_passages{{{EACH}}}", each), least=0)
    yield line("Behind the store, in time", "How old the newest change is that the replica has not taken up; 0 if there is none.", "s",
               (f"multivac_index_lag_seconds{{{EACH}}}", each), thresholds=steps((5, AMBER), (30, RED)), least=0)  # fmt: skip
    yield line("Behind the store, in data", "How many learned data are not in the replica's index yet.", "short",
               (f"multivac_index_lag_data{{{EACH}}}", each), least=0)  # fmt: skip
    yield line("Size", "Of the index on the disk.", "bytes", (f"multivac_index_bytes{{{EACH}}}", each), least=0)
    yield line("Time to load", "How long filling the index took at the last start.", "s", (f"multivac_index_load_seconds{{{EACH}}}", each), least=0)
    yield line("Interruptions of following", "Elections of MongoDB give a few; many, and the index falls behind.", "ops",
               (rate("multivac_index_follow_errors_total", "instance"), each), least=0)  # fmt: skip
    yield states("Following the store", "While it does not, answers rest on what was learned before.",
                 (f"multivac_index_following{{{EACH}}}", each), size=(8, 7), thresholds=BAD_IF_NONE)  # fmt: skip
    yield states("Fenced", "A fenced replica answers no question, since it cannot know what was retracted.",
                 (f"multivac_fenced{{{EACH}}}", each), size=(8, 7), thresholds=BAD_IF_ANY)  # fmt: skip
    yield states("Not writable", "The disk of the index is full or fails: nothing new gets into answers.",
                 (f"multivac_index_unwritable{{{EACH}}}", each), size=(8, 7), thresholds=BAD_IF_ANY)  # fmt: skip
    yield row("The processes")
    ours = "and on (job, instance) multivac_build_info"
    yield line("Connections", "Open HTTP connections, and event streams among them.", "short",
               (f"sum (multivac_http_connections{{{EACH}}})", "connections"), (f"sum (multivac_event_streams{{{EACH}}})", "event streams"),
               least=0)  # fmt: skip
    yield line("Processor", "Cores in use.", "short", (f"rate(process_cpu_seconds_total{{{EACH}}}[$__rate_interval]) {ours}", "{{job}} {{instance}}"), least=0)
    yield line("Memory", "Resident, files that are mapped included.", "bytes", (f"process_resident_memory_bytes{{{EACH}}} {ours}", "{{job}} {{instance}}"), least=0)
    yield line("Open files", "The share of what the process may have open.", "percentunit",
               (f"process_open_fds{{{EACH}}} / process_max_fds {ours}", "{{job}} {{instance}}"), thresholds=steps((0.8, RED)), least=0, most=1)  # fmt: skip


def edge():
    each = "{{instance}}"
    yield row("The edge")
    yield line("Requests by status", "What clients got; those that nginx answered itself included.", "reqps",
               (rate("multivac_edge_requests_total", "status"), "{{status}}"), stack=True, least=0)  # fmt: skip
    yield line("5xx", "The share of requests that got one.", "percentunit",
               (f"sum (rate(multivac_edge_requests_total{{{EACH},status=\"5xx\"}}[$__rate_interval])) / {rate('multivac_edge_requests_total')}", "5xx"),
               thresholds=steps((0.01, RED)), least=0)  # fmt: skip
    yield line("Connections", "Of clients, by what they are doing.", "short",
               (f"sum by (state) (multivac_edge_connections{{{EACH}}})", "{{state}}"), least=0)  # fmt: skip
    yield line("Replicas", "Of the api, as the edge sees them. Without a ready one, clients get 503.", "short",
               (f"multivac_edge_replicas{{{EACH}}}", "{{state}} " + each), least=0)  # fmt: skip
    yield line("Stale answers", "Served while no replica answered (MULTIVAC_EDGE_STALE=on). One may rest on a datum that was retracted.", "reqps",
               (rate("multivac_edge_stale_total"), "stale"), least=0)  # fmt: skip
    yield line("Reloads", "Of nginx's configuration, within an hour: replicas came or went, or the certificate changed.", "short",
               (f"sum by (instance) (increase(multivac_edge_reloads_total{{{EACH}}}[1h]))", each), least=0)  # fmt: skip
    yield stat("The certificate ends in", "Two weeks before, there is a ticket (CertificateExpires).", "d",
               (f"min (multivac_edge_certificate_expires_seconds{{{EACH}}}) / 86400", "days"), size=(8, 6), decimals=0,
               thresholds=steps((0, AMBER), (14, GREEN), base=RED))  # fmt: skip


DASHBOARDS = [
    ("overview", "MultiVAC: overview", "The promises, the ledger, alerts, and which part is out of action.", overview),
    ("pipeline", "MultiVAC: pipeline", "A datum's way: accepted, queued, learned, answerable.", pipeline),
    ("answers", "MultiVAC: answers", "Questions, retractions, the index of each replica, the processes.", answers),
    ("edge", "MultiVAC: edge", "nginx in front of it.", edge),
]


def variable(name, label, query):
    """A label's values. `All` is any value and none, so that targets without the label are shown as well."""
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "hide": 0, "options": [],
    }  # fmt: skip


def dashboard(name, title, description, panels):
    placed, x, y, height = [], 0, 0, 0
    for place, each in enumerate(panels(), 1):
        width, tall = each.pop("size")
        if x + width > WIDTH or each["type"] == "row":
            x, y, height = 0, y + height, 0
        placed.append({"id": place, **each, "gridPos": {"x": x, "y": y, "w": width, "h": tall}})
        x, height = x + width, max(height, tall)
    known = f"multivac_{'edge_reloads_total' if name == 'edge' else 'build_info'}"
    return {
        "uid": f"multivac-{name}", "title": title, "description": description, "tags": ["multivac"], "schemaVersion": SCHEMA,
        "version": 1, "editable": True, "graphTooltip": 1, "timezone": "browser", "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "timepicker": {}, "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "MultiVAC", "tags": ["multivac"], "asDropdown": False, "includeVars": True,
                   "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""}],
        "templating": {"list": [
            {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "regex": "",
             "multi": False, "includeAll": False, "hide": 0, "options": [], "current": {}},
            variable("namespace", "Namespace", f"label_values({known}, namespace)"),
            variable("instance", "Instance", f"label_values({known}{{namespace=~\"$namespace\"}}, instance)"),
        ]},
        "panels": placed,
    }  # fmt: skip


# --- the rules for all of them ------------------------------------------------------------------------------------------


def known_names():
    """What docs/metrics.md documents and what rules.yml records."""
    documented = re.findall(r"\b(?:multivac|process)_\w+", METRICS.read_text(encoding="utf-8"))
    recorded = re.findall(r"record: (\S+)", RULES.read_text(encoding="utf-8"))
    return {*documented, *recorded}


def problems(name, board):
    """What is wrong with a dashboard; scripts/alerts.sh tells whether its queries show anything."""
    text = json.dumps(board)
    if "DS_PROMETHEUS" in text:
        yield "it has ${DS_PROMETHEUS}, which only an import by hand replaces"
    known = known_names()
    panels = [each for each in board["panels"] if each["type"] != "row"]
    for what in ("id", "title"):
        values = [each[what] for each in (board["panels"] if what == "id" else panels)]
        yield from (f"two panels have the {what} {value!r}" for value in {v for v in values if values.count(v) > 1})
    for each in panels:
        title = each["title"]
        if not each["title"] or not each["description"].endswith("."):
            yield f"{title!r} lacks a title, or a description that is a sentence"
        if each["fieldConfig"]["defaults"]["unit"] not in UNITS:
            yield f"{title!r} has the unit {each['fieldConfig']['defaults']['unit']!r}"
        for target in each["targets"]:
            query = target["expr"]
            if each["datasource"] != DATASOURCE or target["datasource"] != DATASOURCE:
                yield f"{title!r} names a datasource"
            if not target["legendFormat"]:
                yield f"{title!r} has a query without a legend"
            for unknown in {re.sub("_(bucket|sum|count)$", "", used) for used in re.findall(r"\b(?:multivac|process)[_:][\w:]+", query)} - known:
                yield f"{title!r} has {unknown}, which neither docs/metrics.md nor rules.yml has"
            counters = re.findall(r"\bmultivac_\w+_(?:total|bucket|sum|count)\b|\bprocess_cpu_seconds_total\b", query)
            windows = re.findall(r"\[(?:\$__rate_interval|\d+[mhd])\]", query)
            if len(counters) != len(windows):
                yield f"{title!r} has a counter without a window: {query}"
            if re.search(r'\b(job|instance)\s*=~?\s*"(?!\$)', query):
                yield f"{title!r} names a job or an instance: {query}"
            if "$namespace" not in query:
                yield f"{title!r} does not heed the variable namespace: {query}"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    wrong = []
    for name, title, description, panels in DASHBOARDS:
        board = dashboard(name, title, description, panels)
        wrong += [f"{name}.json: {problem}" for problem in problems(name, board)]
        path, new = HERE / f"{name}.json", json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        if not arguments:
            path.write_text(new, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != new:
            wrong.append(f"{name}.json differs; run deploy/monitoring/grafana/dashboards.py")
    if wrong:
        sys.exit("\n".join(f"dashboards: {each}" for each in wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
