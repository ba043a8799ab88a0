#!/usr/bin/env bash
# Kills one part of the running system after the other, and sees that the right alert arrives at a webhook, and only it:
#
#     scripts/alerts.sh              the rules as they are; two hours
#     scripts/alerts.sh --quick      their times divided by 30 (tests/alerts/faster.py says how); seven minutes
#     scripts/alerts.sh --faster N   their times divided by N; check.sh tries some of the faults so
#     scripts/alerts.sh [--quick] --only PATTERN   the faults alone whose names match it
#     scripts/alerts.sh [--quick] --panels         no faults; the queries of the dashboards alone
#
# What it does    Starts the full system (Redis, MongoDB, two apis, two workers, the edge), a load on it, and Prometheus and
#                 Alertmanager with the rules and routes of deploy/monitoring, all on free ports of 127.0.0.1, with their data in
#                 a temporary directory.
#                 1. Runs the query of every panel of deploy/monitoring/grafana: none may fail or be empty.
#                 2. One after the other: Redis and MongoDB are killed and suspended; workers, apis and nginx are killed;
#                    poison is fed; the ledger is broken by hand; the queue is filled up; the certificate is replaced by one
#                    that ends soon. Each time the expected alert has to arrive in the time that its rule and the routes say,
#                    no other may, and once the fault is mended its end has to arrive.
#                 Then it ends what it started.
# What it needs   what test-backends.sh needs, nginx, openssl; Prometheus and Alertmanager, which it installs from Debian's
#                 packages.
# What it returns 0 if every rule holds, else 1; a line for each, a table of all faults, and the last line counts the rules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

say() { printf 'alerts: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

# As e2e.sh does, so that nothing is built twice.
if [[ -z ${MULTIVAC_BUILT_WORKER:-} ]]; then build --tests; fi
with_servers alerts "$@"
need_prometheus

arguments=()
for argument in "$@"; do
    if [[ $argument == --quick ]]; then arguments+=(--faster 30); else arguments+=("$argument"); fi
done
export PYTHONPATH=${MULTIVAC_TEST_PYMONGO:-}${PYTHONPATH:+:$PYTHONPATH}
exec python3 tests/alerts/alerts.py "${arguments[@]}"
