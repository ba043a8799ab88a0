#!/usr/bin/env python3
"""Tries what deploy/monitoring has: every alert with `promtool test rules`, and that alerts, runbooks and metrics agree.

    tests/monitoring/monitoring_rules.py        scripts/monitoring-check.sh finds promtool and amtool for it

What it needs   python3; PROMTOOL and AMTOOL name the binaries, else they are on the PATH.
What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. A minute.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import burns  # noqa: E402, F401 it adds cases
import rules  # noqa: E402
from cases import CASES  # noqa: E402
from system import notation, selector  # noqa: E402

MONITORING = ROOT / "deploy/monitoring"
PROMTOOL = os.environ.get("PROMTOOL", "promtool")
AMTOOL = os.environ.get("AMTOOL", "amtool")
TIMEOUT = 85
FIRING = 'ALERTS{alertstate="firing"}'


class Rules:
    """What rules.yml says, as far as it is asked here. Python has no YAML; the file is written one way, and that is checked."""

    def __init__(self):
        self.text = (MONITORING / "rules.yml").read_text(encoding="utf-8")
        self.groups = re.findall(r"^- name: (\S+)$", self.text, re.M)
        self.records = set(re.findall(r"^  - record: (\S+)$", self.text, re.M))
        blocks = re.findall(r"^  - alert: (\S+)\n((?:(?:    .*)?\n)*)", self.text, re.M)
        self.alerts = [self.alert(name, block) for name, block in blocks]

    @staticmethod
    def alert(name, block):
        def field(pattern):
            found = re.search(pattern, block, re.M)
            return found and found[1].replace("''", "'")

        return {
            "name": name,
            "severity": field(r"^    labels: \{severity: (page|ticket)\}$"),
            "summary": field(r"^      summary: '(.+)'$"),
            "description": field(r"^      description: '(.+)'$"),
            "runbook_url": field(r"^      runbook_url: (\S+)$"),
        }

    def annotations(self, alert):
        found = [one for one in self.alerts if (one["name"], one["severity"]) == (alert.name, alert.labels["severity"])]
        return {"description": found[0]["description"], "runbook_url": found[0]["runbook_url"], "summary": alert.summary}


RULES = Rules()


def minutes(number):
    return f"{round(number * 60)}s"


def promtool_input(systems, expected, every):
    """What promtool reads; JSON is YAML."""
    firing, annotated = [], []
    for minute, alerts in expected.items():
        if isinstance(minute, tuple):
            # What an expression yields then.
            minute, expression = minute
            samples = [{"labels": f'{re.match("[a-z0-9_:]+", expression)[0]}{{namespace="shop"}}', "value": value} for value in alerts]
            firing.append({"expr": expression, "eval_time": minutes(minute), "exp_samples": samples})
            continue
        samples = []
        for alert in alerts:
            labels = {"alertname": alert.name, "alertstate": "firing", **alert.labels}
            samples.append({"labels": selector(("ALERTS", tuple(sorted(labels.items())))), "value": 1})
        firing.append({"expr": FIRING, "eval_time": minutes(minute), "exp_samples": samples})
        for name in {alert.name for alert in alerts}:
            same = [alert for alert in alerts if alert.name == name]
            if all(alert.summary for alert in same):
                annotated.append(
                    {
                        "eval_time": minutes(minute),
                        "alertname": name,
                        "exp_alerts": [
                            {"exp_labels": alert.labels, "exp_annotations": RULES.annotations(alert)} for alert in same
                        ],
                    }
                )
    return {
        "rule_files": [str(MONITORING / "rules.yml")],
        "evaluation_interval": minutes(every),
        "group_eval_order": RULES.groups,
        "tests": [
            {
                "interval": "30s",
                "input_series": [
                    {"series": selector(key), "values": notation(values)} for system in systems for key, values in system.input()
                ],
                "promql_expr_test": firing,
                "alert_rule_test": annotated,
            }
        ],
    }


def promtool_test(case):
    """What promtool has to say against it; empty if nothing."""
    _, systems, expected, _, every = case
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "test.yml")
        path.write_text(json.dumps(promtool_input(systems, expected, every)), encoding="utf-8")
        done = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, timeout=TIMEOUT)
        return "" if done.returncode == 0 else done.stdout + done.stderr


class Alerts(unittest.TestCase):
    """A test for each case, which are all tried at the same time."""

    outcomes = {}

    @classmethod
    def start(cls):
        pool = ThreadPoolExecutor(os.cpu_count())
        only = os.environ.get("ONLY", "")
        for case in CASES:
            if only in case[0]:
                cls.outcomes[case[0]] = pool.submit(promtool_test, case)
                setattr(cls, f"test_{case[0].replace(' ', '_')}", lambda self, name=case[0]: self.try_case(name))

    def try_case(self, name):
        said = self.outcomes[name].result()
        if said:
            self.fail(said)


if __name__ == "__main__":
    Alerts.start()
    rules.run("monitoring")
