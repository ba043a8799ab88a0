#!/usr/bin/env bash
# Checks deploy/monitoring without a running system:
#
#     scripts/monitoring-check.sh
#
# What it checks  The rules, with promtool: their form, and by unit tests that every alert fires where it should and nothing else does
#                 (tests/monitoring/cases.py, burns.py). The configurations of Prometheus and Alertmanager. That slo.py wrote what
#                 rules.yml has; that every alert has a severity, a figure and a runbook in docs/operations.md, and every such runbook
#                 an alert; that rules and dashboards use no metric that docs/metrics.md does not have.
#                 scripts/alerts.sh tries the same rules on the running system.
# What it needs   python3; promtool and amtool, out of Debian's packages of Prometheus and Alertmanager, which are installed if
#                 they are missing (as root, or by sudo without a password).
# What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

say() { printf 'monitoring-check: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

need_prometheus
exec tests/monitoring/monitoring_rules.py
