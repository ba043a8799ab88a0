#!/usr/bin/env python3
"""Renders policies/, dashboards/ and rules.yaml out of deploy/monitoring, the one source of alerts and dashboards:

    deploy/gcp/render.py            writes them, and removes files that have no source any more
    deploy/gcp/render.py --check    changes nothing; says which files are not as they would be written

What it does    An alert of rules.yml becomes an alert policy with one PromQL condition. The rules that record become rules.yaml,
                for Managed Prometheus in the cluster: they look at what other rules record a day ago, so they cannot be put into
                the conditions. What Prometheus' templates say is said by Cloud Monitoring's variables, as `gcloud monitoring
                policies migrate` does it. What alertmanager.yml inhibits is told in the documentation, since Cloud Monitoring
                inhibits nothing. A Grafana dashboard becomes one of Cloud Monitoring's: the grid of 24 columns is one of 48,
                a panel a widget.
What it needs   python3 (3.9 or newer) with PyYAML.
What it returns 0; with --check 1 if a file differs; 2 if something in the source cannot be said in Cloud Monitoring's terms.
"""

import argparse
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
SEVERITIES = {"page": "CRITICAL", "ticket": "WARNING"}
# How often a condition is evaluated. Every evaluation costs, and every alert waits for longer than this.
INTERVAL = "60s"
RULES_HEAD = """# Written by render.py: the rules of deploy/monitoring that record, for Managed Prometheus. The policies need them.
# kubectl apply --namespace NAMESPACE -f deploy/gcp/rules.yaml, where MultiVAC runs: they see that namespace alone.
"""


class Untranslatable(Exception):
    pass


# --- PromQL ----------------------------------------------------------------------------------------------------------


def tidy(query):
    """On one line where it is short, else as it was written."""
    query = query.strip()
    line = re.sub(r"\s*\n\s*", " ", query)
    return line if len(line) <= 120 else query


# --- Prometheus' templates -------------------------------------------------------------------------------------------

VALUE = "${metric.label.value}"
# What a function would have made of the value, and what has to be said since nothing does it here.
UNITS = {"humanizeDuration": " s", "humanizePercentage": " (1 is 100 %)", "humanizeTimestamp": " (a Unix time)"}
FUNCTIONS = r"humanize1024|humanizeDuration|humanizePercentage|humanizeTimestamp|humanize"
VALUE_TEMPLATE = re.compile(
    rf"""\{{\{{-?\s*(?:(?:(?P<before>{FUNCTIONS})\s+)?\$value|printf\s+"[^"]*"\s+\$value|\$value\s*\|\s*(?P<after>{FUNCTIONS}|printf\s+"[^"]*"))\s*-?\}}\}}"""
)
LABEL_TEMPLATE = re.compile(r"\{\{-?\s*\$labels\.([A-Za-z_][A-Za-z0-9_]*)\s*-?\}\}")


def translated(text, label="${{metric_or_resource.label.{}}}", value=VALUE):
    """A template of Prometheus' in Cloud Monitoring's variables."""

    def of_value(found):
        return value + UNITS.get(found["before"] or found["after"] or "", "")

    text = LABEL_TEMPLATE.sub(lambda found: label.format(found[1]), VALUE_TEMPLATE.sub(of_value, text))
    if "{{" in text:
        raise Untranslatable(f"no variable of Cloud Monitoring's says {text[text.index('{{') :][:60]!r}")
    return " ".join(text.split())


# --- alerts ----------------------------------------------------------------------------------------------------------


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    return int(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", str(text))))


def load(path):
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


class Source:
    """deploy/monitoring: its rules, and which alert is silent while which other one fires."""

    def __init__(self, directory):
        self.alerts, self.recording, self.causes = [], [], {}
        for group in load(directory / "rules.yml")["groups"]:
            self.alerts += [(group, rule) for rule in group["rules"] if "alert" in rule]
            records = [rule for rule in group["rules"] if "record" in rule]
            if records:
                self.recording.append({"name": group["name"], "interval": group.get("interval", INTERVAL), "rules": records})
        names = sorted({rule["alert"] for _, rule in self.alerts})
        for rule in load(directory / "alertmanager.yml").get("inhibit_rules") or []:
            cause, which, _ = matched(rule["source_matchers"])
            _, _, pattern = matched(rule["target_matchers"])
            if cause:
                for symptom in names:
                    if re.fullmatch(pattern, symptom) and symptom != cause:
                        self.causes.setdefault(symptom, []).append(cause + (f" ({which})" if which else ""))

    def keys(self):
        """A name for each alert. Where several rules have one name, what is different in their labels is added."""
        keys = {}
        for group, rule in self.alerts:
            same = [other for _, other in self.alerts if other["alert"] == rule["alert"]]
            key = rule["alert"].lower()
            if len(same) > 1:
                labels = rule.get("labels", {})
                key += "".join(
                    f"-{labels[name].lower()}"
                    for name in sorted(labels)
                    if len({other.get("labels", {}).get(name) for other in same}) > 1
                )
            if not re.fullmatch(r"[a-z0-9_-]{1,63}", key) or key in keys:
                raise Untranslatable(f"{rule['alert']}: {key!r} is no label, or stands for two rules")
            keys[key] = (group, rule)
        return keys


def matched(matchers):
    """What one side of an inhibit rule names: the alert, the program if it names one, and the pattern of the alert's name."""
    found = {}
    for matcher in matchers:
        name, pattern = re.fullmatch(r"\s*(\w+)\s*=~?\s*(.*?)\s*", matcher).groups()
        found[name] = pattern.strip('"')
    return found.get("alertname"), found.get("program"), found.get("alertname", "")


def policy(key, group, rule, source):
    name, labels, notes = rule["alert"], rule.get("labels", {}), rule.get("annotations", {})
    severity = labels["severity"]
    told = {part: translated(notes[part]) for part in ("summary", "description")}
    runbook = "@DOCS@" + notes["runbook_url"]
    content = [f"**{told['summary']}**", told["description"]]
    causes = sorted(set(source.causes.get(name, [])))
    if causes:
        content.append(f"If {', '.join(causes[:-1]) + ' or ' if causes[1:] else ''}{causes[-1]} fires too, begin there: this follows from it.")
    content.append(f"Runbook: {runbook}")
    variant = key[len(name) :].replace("-", " ").strip()
    if re.search(r"(?<![\w:])ALERTS(?![\w:])", rule["expr"]):
        raise Untranslatable("Managed Prometheus has no ALERTS")
    return {
        "displayName": f"MultiVAC: {name}" + (f" ({variant})" if variant else ""),
        "documentation": {
            "content": "\n\n".join(content),
            "mimeType": "text/markdown",
            "subject": f"MultiVAC: {name}: {told['summary']}",
            "links": [{"displayName": "Runbook", "url": runbook}],
        },
        "severity": SEVERITIES[severity],
        "userLabels": {"app": "multivac", "rule": key},
        "combiner": "OR",
        "enabled": True,
        "conditions": [
            {
                "displayName": name,
                "conditionPrometheusQueryLanguage": {
                    "query": tidy(rule["expr"]),
                    "duration": f"{seconds(rule.get('for', '0s'))}s",
                    "evaluationInterval": INTERVAL,
                    "labels": {label: translated(str(value), "${{{}}}", "${value}") for label, value in sorted(labels.items())},
                    "ruleGroup": group["name"],
                    "alertRule": name,
                    # The alerts may be made before MultiVAC has sent its first figures, and for parts that are not there.
                    "disableMetricValidation": True,
                },
            }
        ],
        "alertStrategy": {"autoClose": "1800s", "notificationPrompts": ["OPENED", "CLOSED"]},
    }


# --- dashboards ------------------------------------------------------------------------------------------------------

# Grafana's units as UCUM's.
PANEL_UNITS = {
    "s": "s", "ms": "ms", "d": "d", "bytes": "By", "decbytes": "By", "percentunit": "10^2.%", "percent": "%", "short": "1", "none": "1",
    "reqps": "1/s", "ops": "1/s", "cps": "1/s", "wps": "1/s", "rps": "1/s", "Bps": "By/s", "binBps": "By/s", "bool": "1", "bool_yes_no": "1", "dtdurations": "s",
}  # fmt: skip


def expression(query):
    """Grafana's variables: an interval is Cloud Monitoring's own, and matchers by a variable go."""
    query = re.sub(r"\$__rate_interval|\$__interval|\$__range|\$\{__\w+\}", "${__interval}", query)
    query = re.sub(r"""\b\w+\s*(=~|=|!~|!=)\s*"\$\{?\w+(:\w+)?\}?"\s*,?\s*""", "", query)
    query = query.replace("{}", "")
    left = query.replace("${__interval}", "")
    if "$" in left:
        raise Untranslatable(f"a variable in {query!r}")
    return tidy(query)


def widget(panel):
    title, unit = panel["title"], panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    if panel["type"] == "text":
        return {"title": title, "text": {"content": panel["options"]["content"], "format": "MARKDOWN"}}
    if any("ALERTS{" in target["expr"] for target in panel.get("targets", [])):
        return {"title": title, "incidentList": {}}
    series = []
    for target in panel.get("targets", []):
        query = {"prometheusQuery": expression(target["expr"]), "unitOverride": PANEL_UNITS[unit]}
        series.append((query, re.sub(r"\{\{\s*(\w+)\s*\}\}", r"${labels.\1}", target.get("legendFormat", "")).replace("__auto", "")))
    if not series:
        raise Untranslatable(f"panel {title!r} has no query")
    if panel["type"] in ("stat", "gauge", "bargauge") and len(series) == 1:
        return {"title": title, "scorecard": {"timeSeriesQuery": series[0][0]}}
    if panel["type"] == "table":
        return {"title": title, "timeSeriesTable": {"dataSets": [{"timeSeriesQuery": query} for query, _ in series]}}
    stacked = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {}).get("stacking", {}).get("mode", "none") != "none"
    return {
        "title": title,
        "xyChart": {
            "dataSets": [
                {"timeSeriesQuery": query, "plotType": "STACKED_AREA" if stacked else "LINE", "targetAxis": "Y1", **({"legendTemplate": legend} if legend else {})}
                for query, legend in series
            ],
            "yAxis": {"scale": "LINEAR"},
        },
    }


def dashboard(name, grafana):
    tiles = []
    panels = [inner for panel in grafana["panels"] for inner in [panel, *panel.get("panels", [])]]
    for panel in panels:
        # Managed Prometheus has no ALERTS: the list of incidents stands for them, once.
        if panel["type"] == "stat" and "ALERTS{" in panel["targets"][0]["expr"]:
            continue
        place = panel["gridPos"]
        box = {"xPos": place["x"] * 2, "yPos": place["y"] * 2, "width": place["w"] * 2, "height": place["h"] * 2}
        shown = {"title": panel["title"], "sectionHeader": {"dividerBelow": True}} if panel["type"] == "row" else widget(panel)
        tiles.append({**{key: value for key, value in box.items() if value}, "widget": shown})
    return {
        "displayName": grafana["title"],
        "labels": {"app": "multivac", "dashboard": name},
        "mosaicLayout": {"columns": 48, "tiles": tiles},
    }


# --- files -----------------------------------------------------------------------------------------------------------


def recording(source):
    """The rules that record, as a resource of Managed Prometheus; of the namespace that it is applied to."""
    import yaml

    resource = {
        "apiVersion": "monitoring.googleapis.com/v1",
        "kind": "Rules",
        "metadata": {"name": "multivac", "labels": {"app.kubernetes.io/name": "multivac"}},
        "spec": {"groups": source.recording},
    }
    return RULES_HEAD + yaml.safe_dump(resource, sort_keys=False, width=1000, allow_unicode=True)


def rendered(directory):
    source = Source(directory)
    files = {}
    for key, (group, rule) in source.keys().items():
        try:
            files[f"policies/{key}.json"] = policy(key, group, rule, source)
        except (Untranslatable, KeyError) as error:
            raise Untranslatable(f"{rule['alert']}: {error}") from error
    for path in sorted((directory / "grafana").glob("*.json")):
        try:
            files[f"dashboards/{path.stem}.json"] = dashboard(path.stem, json.loads(path.read_text(encoding="utf-8")))
        except (Untranslatable, KeyError) as error:
            raise Untranslatable(f"{path.name}: {error}") from error
    texts = {name: json.dumps(body, indent=2, ensure_ascii=False) + "\n" for name, body in files.items()}
    return {**texts, "rules.yaml": recording(source)}


def main():
    parser = argparse.ArgumentParser(description="Its head explains it.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--monitoring", type=pathlib.Path, default=HERE.parent / "monitoring")
    parser.add_argument("--to", type=pathlib.Path, default=HERE)
    arguments = parser.parse_args()
    try:
        files = rendered(arguments.monitoring)
    except ImportError:
        print("render: PyYAML is missing (Debian: python3-yaml)", file=sys.stderr)
        return 2
    except Untranslatable as error:
        print(f"render: {error}", file=sys.stderr)
        return 2
    there = {
        str(path.relative_to(arguments.to)): path.read_text(encoding="utf-8")
        for directory in ("policies", "dashboards")
        for path in (arguments.to / directory).glob("*.json")
    }
    if (arguments.to / "rules.yaml").exists():
        there["rules.yaml"] = (arguments.to / "rules.yaml").read_text(encoding="utf-8")
    differing = sorted(name for name in {*files, *there} if files.get(name) != there.get(name))
    for name in differing:
        path = arguments.to / name
        if arguments.check:
            print(f"render: {name} is not what deploy/monitoring makes of it")
        elif name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], encoding="utf-8")
        else:
            path.unlink()
    print(f"render: {len(files)} files, {len(differing)} {'differ' if arguments.check else 'written'}")
    return 1 if arguments.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
