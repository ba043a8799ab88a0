#!/usr/bin/env bash
# Tries the chart and deploy/k8s (tests/kubernetes/chart_rules.py):
#
#     scripts/k8s-check.sh
#
# What it does    Lints and renders the chart in every way that it may be used; has bad values and unknown keys refused; looks at every pod
#                 (restricted, resources, time-outs, images by digest), at scaling, disruption budgets, secrets and monitoring; compares
#                 deploy/k8s and the chart's package with the chart. Where MULTIVAC_TEST_KUBECONFIG names a file for kubectl, the API server of
#                 that cluster gets all of it with `--dry-run=server --validate=strict`, in a namespace of its own that enforces
#                 `restricted`; a warning is a failure. It needs the resource definitions of KEDA, the Prometheus Operator and Google's
#                 Managed Prometheus.
# What it needs   helm 3.14 or newer, or 4; python3; with a cluster kubectl. PyYAML is installed from PyPI into ${XDG_CACHE_HOME:-~/.cache}/multivac,
#                 promtool out of Debian's packages.
# What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Without helm it says SKIPPED, and returns 0.
#                 Some seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

say() { printf 'k8s-check: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

if ! command -v helm >/dev/null; then
    echo 'k8s-check: SKIPPED: helm is not installed (https://helm.sh)'
    exit 0
fi
if [[ -z ${MULTIVAC_TEST_KUBECONFIG:-} ]]; then
    echo 'k8s-check: SKIPPED: what an API server says; MULTIVAC_TEST_KUBECONFIG names none'
elif ! command -v kubectl >/dev/null; then
    fail 'kubectl is missing'
fi
need_prometheus
virtual_environment pyyaml==6.0.4
exec "$venv/bin/python" tests/kubernetes/chart_rules.py
