#!/usr/bin/env python3
"""Proves on a real cluster that nothing that was accepted is lost, and that what should fail no request fails none:

    scripts/k8s-test.sh --context CONTEXT [--registry REGISTRY] [--version VERSION] [--quick] [--seconds N] [--only NAME]… [--table FILE]

What it does    Makes a namespace (scripts/setup.py), installs (scripts/k8s-deploy.sh), and does one thing after another to it while clients
                feed, ask and retract through the edge's address. After each it looks up every datum that was accepted. At the end a
                table: what was done, requests, failed, 503, data accepted, lost, seconds until all was whole again.
--quick         those proofs that take some six minutes together
--seconds N     those that fit; the others are said to be CUT OFF
--only NAME     this proof, and the installation; may be repeated. --list names them
--other V       the upgrade goes from VERSION to V and back; else the same version with another annotation
--members N     of MongoDB: 1 or 3
--set K=V       as for helm
--table FILE    the table, as Markdown
What it needs   python3 (3.9), kubectl, helm, openssl, curl; a cluster of two nodes or more that gives LoadBalancer addresses, which this machine
                reaches, and enforces network policies. Rights to make namespaces; for drains, to cordon nodes.
                What only the environment can do is a command in a variable; without it the proof is SKIPPED:
                MULTIVAC_NODE_CUT, MULTIVAC_NODE_MEND   called with the number at the end of a node's name: takes its network away, restores it
                MULTIVAC_POD_KILL                       called with a container's id: kill -9 of its processes; without it pods are deleted by force
What it returns 0 if every rule holds; 1 if one is broken; 2 if it could not begin. The last line is `k8s-test: N rules hold, M broken`.
                Its namespaces and their volumes are deleted, whatever happens.
"""

import argparse
import pathlib
import signal
import sys
import tempfile
import time
import traceback
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import disasters  # noqa: E402, F401  pylint: disable=unused-import
import proofs  # noqa: E402
import scaling  # noqa: E402, F401  pylint: disable=unused-import
from place import Failure, Place  # noqa: E402


class Report:
    def __init__(self, table):
        self.table, self.held, self.broken, self.rows = table, 0, 0, []

    def rule(self, what, holds, found=""):
        self.held, self.broken = self.held + bool(holds), self.broken + (not holds)
        print(f"ok      {what}" if holds else f"BROKEN  {what}\n        {found}", flush=True)

    def say(self, text):
        print(text, flush=True)

    def row(self, what, *cells):
        self.rows.append("| " + " | ".join([what, *(str(cell) for cell in cells)]) + " |")
        print(self.rows[-1], flush=True)
        if self.table:
            pathlib.Path(self.table).write_text(self.markdown(), encoding="utf-8")

    def markdown(self):
        names = ["what was done", "requests", "failed", "of these 503", "accepted", "lost", "seconds until whole"]
        head = "| " + " | ".join(names) + " |\n| --- | " + " | ".join(["---:"] * (len(names) - 1)) + " |\n"
        return head + "\n".join(self.rows) + "\n"


def read_options():
    parser = argparse.ArgumentParser(
        prog="scripts/k8s-test.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--context")
    parser.add_argument("--version", default="local")
    parser.add_argument("--other")
    parser.add_argument("--registry", default="")
    parser.add_argument("--namespace", default=f"k8s-test-{uuid.uuid4().hex[:6]}", help="how the namespaces' names begin")
    parser.add_argument("--members", type=int, choices=[1, 3], default=1)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--only", action="append", default=[], choices=[proof.name for proof in proofs.ALL], metavar="NAME")
    parser.add_argument("--table")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if not options.list and not options.context:
        parser.error("--context is needed: a name out of `kubectl config get-contexts`")
    return options


def chosen(options):
    return [each for each in proofs.ALL if (each.name in options.only if options.only else each.quick or not options.quick)]


def prove(place, options, report, began):
    for proof in chosen(options):
        if options.seconds and time.monotonic() - began + proof.seconds > options.seconds:
            report.say(f"CUT OFF {proof.name}: {proof.__doc__}")
            continue
        try:
            reason = proof(place, report).run()
            if reason:
                report.say(f"SKIPPED {proof.name}: {reason}")
        except Failure as reason:
            report.rule(f"{proof.name} can be done", False, reason)
            report.say("        events:\n" + "\n".join(events(place)))
        except Exception:  # pylint: disable=broad-except
            report.rule(f"{proof.name} can be done", False, traceback.format_exc())


def events(place):
    try:
        return place.kubectl("get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp").splitlines()[-8:]
    except Failure:
        return []


def main():
    options = read_options()
    if options.list:
        for proof in proofs.ALL:
            print(f"{proof.name:12} {'quick ' if proof.quick else '      '}{proof.seconds:4} s  {proof.__doc__}")
        return 0

    def end(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    began, report = time.monotonic(), Report(options.table)
    with tempfile.TemporaryDirectory(prefix="k8s-test-") as directory:
        place = Place(options, "a", directory, [f"networkPolicies.monitoringNamespaces={{{options.namespace}-monitoring}}"])
        try:
            proofs.install(place, report)
            prove(place, options, report, began)
        except Failure as reason:
            report.rule("the release is installed", False, reason)
            report.say("\n".join(events(place)))
        finally:
            gone = place.remove()
    report.rule("its namespaces and volumes are gone", gone)
    print("\n" + report.markdown())
    print(f"k8s-test: {report.held} rules hold, {report.broken} broken")
    return int(report.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
