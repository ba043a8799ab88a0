"""Kills one part of the full system after the other, and sees which alerts arrive at a webhook; scripts/alerts.sh runs it.

    alerts.py [--faster N] [--only TEXT] [--panels]

--faster N     divides the times of the rules by N (faster.py); 1 unless given
--only PATTERN tries the faults alone whose names match it
--panels       runs the queries of the dashboards alone
"""

import argparse
import pathlib
import re
import signal
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import history  # noqa: E402
import panels  # noqa: E402
from faster import faster, seconds  # noqa: E402
from faults import faults  # noqa: E402
from system import ROOT, Load, System  # noqa: E402
from watching import Alertmanager, Prometheus, Webhook  # noqa: E402

MONITORING = ROOT / "deploy/monitoring"
# Above what rules and routes say: a busy machine.
SLACK = 5
# From the fault's alert on, so that an alert that comes after it shows; by the clock of the rules.
HELD = 60


class Trial:
    def __init__(self, directory, factor):
        self.directory, self.factor = directory, factor
        self.held = self.broken = 0
        self.rows, self.lingering = [], []
        scrape = 1 if factor > 1 else 5
        # Leases that a killed worker holds run out long before a datum counts as stuck, as they do with the default.
        self.system = System(directory, lease=f"{max(30 / factor, 2):.0f}s")
        self.webhook = Webhook()
        rules, routes = directory / "rules.yml", (MONITORING / "alertmanager.yml").read_text()
        rules.write_text(faster((MONITORING / "rules.yml").read_text(), factor, scrape))
        self.routes = faster(routes, factor, scrape)
        targets = {
            "multivac-api": self.system.api_addresses,
            "multivac-worker": self.system.worker_addresses,
            "multivac-edge": [self.system.edge_metrics],
        }
        self.alertmanager = Alertmanager(directory, self.routes, self.webhook.address)
        self.prometheus = Prometheus(directory, rules, targets, self.alertmanager.address, scrape)
        self.load = None

    # --- from start to end -----------------------------------------------------------------------------------------

    def start(self):
        history.write(self.prometheus, (MONITORING / "rules.yml").read_text(), self.factor)
        self.system.start()
        self.alertmanager.restart()
        self.prometheus.restart()
        self.load = Load(self.system.edge)

    def clean_up(self):
        if self.load:
            self.load.end()
        for part in (self.prometheus, self.alertmanager):
            part.clean_up()
        self.system.clean_up()
        self.webhook.stop()

    def rule(self, name, problems):
        if problems:
            self.broken += 1
            print(f"BROKEN  {name}", *problems, sep="\n        ", flush=True)
        else:
            self.held += 1
            print(f"ok      {name}", flush=True)

    # --- the rules ---------------------------------------------------------------------------------------------------

    def healthy(self):
        """Nothing is said of a system that is well, for as long as most alerts wait."""
        self.webhook.await_one(360 / self.factor + SLACK, lambda told: told.is_firing)
        problems = [f"{told}: {told.annotations['summary']}" for told in self.webhook.told]
        down = [each["metric"] for each in self.prometheus.query("up == 0")]
        self.rule("nothing is told of a system that is well", problems + [f"down: {target}" for target in down])

    def quiet(self):
        """Waits until no alert is pending or firing, but those that linger; says what still is."""
        lingering = [fault.alert["alertname"] for fault, *_ in self.lingering]
        deadline = time.monotonic() + 660 / self.factor + 30
        while True:
            left = {f"{name} {state}" for name, state, _ in self.prometheus.alerts() if name not in lingering}
            if not left or time.monotonic() > deadline:
                return [f"not quiet again: {', '.join(sorted(left))}"] if left else []
            time.sleep(0.2)

    def waits(self, fault):
        """How long its alert may take to arrive, and its end: what the rule and the route say."""
        wanted = fault.alert
        ours = [
            rule
            for rule in self.prometheus.rules()
            if rule["name"] == wanted["alertname"] and rule["labels"]["severity"] == wanted["severity"]
        ]
        assert len(ours) == 1, f"{len(ours)} rules for {wanted}"
        waiting = lambda key: max(map(seconds, re.findall(rf"^ *{key}: (\S+)$", self.routes, re.MULTILINE)))  # noqa: E731
        # What one rule records another reads at its next turn.
        turns = 4 * 30 / self.factor
        firing = ours[0]["duration"] + waiting("group_wait") + turns + fault.seen_within + SLACK
        resolved = fault.lasts / self.factor + waiting("group_interval") + turns + fault.seen_within + SLACK
        return firing, resolved

    def try_one(self, fault):
        firing_within, resolved_within = self.waits(fault)
        since, began = len(self.webhook.told), time.monotonic()
        expected = lambda told: told.is_like(fault.alert)  # noqa: E731
        problems = []
        fault.inflict()
        fired = self.webhook.await_one(firing_within, lambda told: told.is_firing and expected(told), since)
        if fired:
            time.sleep(HELD / self.factor)
        else:
            problems.append(f"{fault.alert} did not arrive within {firing_within:.0f} s")
        mended = time.monotonic()
        fault.mend()
        row = Row(fault, fired and fired.at - began)
        self.rows.append(row)
        if fired:
            problems += about(fired)
            self.lingering.append((fault, row, since, mended, mended + resolved_within))
            if not fault.lingers:
                problems += self.see_end()
        problems += self.quiet()
        known = [linger[0].alert for linger in self.lingering]
        others = {
            str(told) for told in self.webhook.told[since:]
            if told.is_firing and not expected(told) and not any(told.is_like(alert) for alert in known)
        }  # fmt: skip
        row.others = sorted(others)
        problems += [f"{other} arrived as well" for other in row.others]
        after = f" after {row.fired:.0f} s" if fired else ""
        end = f", and its end after {row.resolved:.0f} s" if row.resolved else ""
        self.rule(f"{fault.name}: {row.alert}{after}{end}", problems)

    def see_end(self):
        """Waits until the last fault's alert has ended."""
        fault, row, since, mended, deadline = self.lingering.pop()
        over = lambda told: not told.is_firing and told.is_like(fault.alert) and told.at > mended  # noqa: E731
        ended = self.webhook.await_one(max(deadline - time.monotonic(), 0), over, since)
        if ended:
            row.resolved = ended.at - mended
        return [] if ended else [f"its end did not arrive within {deadline - mended:.0f} s"]

    def see_ends(self):
        for fault, *_ in reversed(self.lingering[:]):
            self.rule(f"{fault.name}: the end of {fault.alert['alertname']} arrives", self.see_end())

    def evaluated(self):
        self.rule("every rule is evaluated without an error", self.prometheus.rule_errors())

    def report(self):
        print(f"\nThe rules run {self.factor:g} times as fast; the load got {dict(self.load.replies)}\n")
        lines = [("fault", "alert", "s until fired", "s until resolved", "unexpected")]
        for row in self.rows:
            figure = lambda seconds: f"{seconds:.0f}" if seconds else "-"  # noqa: E731
            lines.append((row.fault.name, row.alert, figure(row.fired), figure(row.resolved), ", ".join(row.others) or "none"))
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        for line in [lines[0], tuple("-" * width for width in widths), *lines[1:]]:
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")


class Row:
    def __init__(self, fault, fired):
        self.fault, self.fired, self.resolved, self.others = fault, fired, None, []
        program = fault.alert.get("program")
        self.alert = fault.alert["alertname"] + (f" {{{program}}}" if program else "") + f" ({fault.alert['severity']})"


def about(told):
    """What is wrong with what a notification says."""
    problems = []
    for name in ("summary", "description", "runbook_url"):
        said = told.annotations.get(name, "")
        if not said or "<no value>" in said or "%!" in said or "error" in said and "template" in said:
            problems.append(f"its {name} is {said!r}")
    page, _, anchor = told.annotations.get("runbook_url", "").partition("#")
    place = ROOT / page[page.find("docs/") :]
    headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE) if place.is_file() else []
    if anchor not in [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]:
        problems.append(f"its runbook {told.annotations.get('runbook_url')} is no heading")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faster", type=float, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--panels", action="store_true")
    arguments = parser.parse_args()
    # So that what was started is ended, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="multivac-alerts.") as directory:
        trial = Trial(pathlib.Path(directory), arguments.faster)
        try:
            trial.start()
            trial.healthy()
            if not arguments.only:
                panels.try_all(trial.prometheus, trial.rule)
            if not arguments.panels:
                for fault in faults(trial.system):
                    if re.search(arguments.only, fault.name) and (not fault.slow or arguments.faster == 1 or arguments.only):
                        try:
                            trial.try_one(fault)
                        except Exception:  # of an unknown system there is nothing more to learn
                            trial.rule(fault.name, traceback.format_exc().splitlines()[-8:])
                            break
                trial.see_ends()
            trial.evaluated()
            trial.report()
        finally:
            trial.clean_up()
    print(f"\nalerts: {trial.held} rules hold, {trial.broken} broken")
    sys.exit(trial.broken > 0)


if __name__ == "__main__":
    main()
