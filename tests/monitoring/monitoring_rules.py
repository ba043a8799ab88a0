#!/usr/bin/env python3
"""Tries what deploy/monitoring has: every alert with `promtool test rules`, and that alerts, runbooks and metrics agree.

    tests/monitoring/monitoring_rules.py        scripts/monitoring-check.sh finds promtool and amtool for it

    tests/monitoring/monitoring_rules.py TEXT   only the cases whose names contain it

What it needs   python3; MULTIVAC_TEST_PROMTOOL and MULTIVAC_TEST_AMTOOL name the binaries, else they are on the PATH.
What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Some minutes.
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
PROMTOOL = os.environ.get("MULTIVAC_TEST_PROMTOOL", "promtool")
AMTOOL = os.environ.get("MULTIVAC_TEST_AMTOOL", "amtool")
TIMEOUT = 400
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
            name = "" if "(" in expression else expression
            samples = [{"labels": f'{name}{{namespace="shop"}}', "value": value} for value in alerts]
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
    def start(cls, only):
        pool = ThreadPoolExecutor(os.cpu_count())
        # In the order in which their outcomes are asked for, so that no test waits for the cases of others.
        for case in sorted(CASES, key=lambda case: case[0].replace(" ", "_")):
            if only in case[0]:
                cls.outcomes[case[0]] = pool.submit(promtool_test, case)
                setattr(cls, f"test_{case[0].replace(' ', '_')}", lambda self, name=case[0]: self.try_case(name))

    def try_case(self, name):
        said = self.outcomes[name].result()
        if said:
            self.fail(said)


class Files(unittest.TestCase):
    """What the files say of each other."""

    def run_tool(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_the_rules_have_the_form_of_rules(self):
        said = self.run_tool(PROMTOOL, "check", "rules", "--lint=all", "--lint-fatal", str(MONITORING / "rules.yml"))
        counted = len(RULES.alerts) + len(re.findall("^  - record: ", RULES.text, re.M))
        self.assertIn(f"{counted} rules found", said, "this test reads other rules than promtool does")

    def test_slo_py_wrote_what_the_rules_have(self):
        self.run_tool(str(MONITORING / "slo.py"), "--check")

    def test_prometheus_takes_its_configuration(self):
        text = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "prometheus.yml")
            # Where docker compose mounts it.
            path.write_text(text.replace("/etc/monitoring/", f"{MONITORING}/"), encoding="utf-8")
            self.assertIn(f"{MONITORING}/rules.yml", path.read_text(encoding="utf-8"))
            self.run_tool(PROMTOOL, "check", "config", str(path))

    def test_alertmanager_takes_its_configuration_and_tells_the_right_receiver(self):
        text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "alertmanager.yml")
            # Debian 12 has Alertmanager 0.25, which knows no url_file.
            path.write_text(re.sub(r"url_file: \S+", "url: http://127.0.0.1:9/", text), encoding="utf-8")
            self.run_tool(AMTOOL, "check-config", str(path))
            for severity in ("page", "ticket"):
                said = self.run_tool(AMTOOL, "config", "routes", "test", f"--config.file={path}", f"severity={severity}", "alertname=Stuck")
                self.assertEqual(said.strip(), severity)

    def test_alertmanager_inhibits_alerts_that_exist(self):
        text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
        named = re.findall(r"alertname =~? \"?([A-Za-z()|]+)", text)
        names = {name for pattern in named for name in expanded(pattern)}
        self.assertGreater(len(names), 10)
        self.assertLessEqual(names, {alert["name"] for alert in RULES.alerts})

    def test_every_alert_says_what_it_has_to(self):
        for alert in RULES.alerts:
            with self.subTest(f"{alert['name']} {alert['severity']}"):
                self.assertTrue(all(alert.values()), alert)
                self.assertIn("{{ $value", alert["summary"], "no figure")
                self.assertNotIn("{{", alert["description"], "cases compare it as it is")
                self.assertEqual(alert["runbook_url"], f"docs/operations.md#{alert['name'].lower()}")

    def test_every_alert_has_a_runbook_and_every_runbook_an_alert(self):
        page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
        section = re.search(r"^## Alerts\n(.*?)^## ", page, re.M | re.S)[1]
        runbooks = re.split(r"^### (.+)\n", section, flags=re.M)[1:]
        self.assertEqual(sorted(runbooks[::2]), sorted({alert["name"] for alert in RULES.alerts}))
        for name, text in zip(runbooks[::2], runbooks[1::2]):
            with self.subTest(name):
                self.assertEqual(re.findall(r"^\*\*(\w+)\*\*", text, re.M), ["Means", "Confirm", "Do", "Over"])

    def test_every_alert_is_seen_to_fire_and_to_stay_silent(self):
        fires = {(alert.name, alert.labels["severity"]) for case in CASES for alerts in case[2].values() for alert in alerts if not isinstance(alert, (int, float))}
        silent = {name for case in CASES for name in case[3]}
        known = {(alert["name"], alert["severity"]) for alert in RULES.alerts}
        self.assertEqual(fires, known)
        self.assertEqual(silent, {name for name, _ in known})

    def test_rules_dashboards_and_runbooks_use_metrics_that_exist(self):
        documented = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
        exist = set(re.findall(r"\b(?:multivac|process)_[a-z_]+\b", documented)) | RULES.records | {"up", "ALERTS"}
        series = {f"{name}_{part}" for name in exist for part in ("bucket", "count", "sum")}
        paths = [MONITORING / "rules.yml", ROOT / "docs/operations.md", HERE / "system.py", *MONITORING.glob("grafana/*.json")]
        for path in paths:
            with self.subTest(path.name):
                used = set(re.findall(r"\b(?:multivac|process)_[a-z_]+\b|\bmultivac:[a-z0-9_:]+\b", path.read_text(encoding="utf-8")))
                self.assertLessEqual(used, exist | series)


def expanded(pattern):
    """The names that a pattern of alternatives stands for, one of which may be in parentheses."""
    if found := re.fullmatch(r"(.*\|)?\(([^)]+)\)(\w*)(\|.*)?", pattern):
        before, middle, after, rest = found.groups()
        pattern = (before or "") + "|".join(name + after for name in middle.split("|")) + (rest or "")
    return pattern.split("|")


if __name__ == "__main__":
    Alerts.start(*sys.argv[1:] or [""])
    rules.run("monitoring")
