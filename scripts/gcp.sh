#!/usr/bin/env bash
# Tries deploy/gcp without a cloud (tests/gcp):
#
#     scripts/gcp.sh
#
# What it does    Compares the rendered files with deploy/monitoring, parses every file with Google's own protobuf classes, and runs
#                 apply.sh and cluster.sh in front of a stand-in of gcloud that keeps state and refuses what the real one refuses. Where the real
#                 gcloud is installed, it runs too, and sends its requests to the stand-in.
# What it needs   bash, python3. Google's classes and PyYAML are installed from PyPI into ${XDG_CACHE_HOME:-~/.cache}/multivac.
#                 Without promtool (Debian: prometheus) the queries are not parsed, which is SKIPPED.
# What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Two minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

say() { printf 'gcp: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

need_prometheus
virtual_environment google-cloud-monitoring==2.32.0 google-cloud-logging==3.17.0 google-cloud-monitoring-dashboards==3.2.0 pyyaml==6.0.4
exec "$venv/bin/python" tests/gcp/gcp_rules.py
