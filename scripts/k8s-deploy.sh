#!/bin/sh
# Installs or upgrades a version on Kubernetes and verifies it; see scripts/kubernetes/deploy.py, or --help.
exec python3 "$(dirname "$0")/kubernetes/deploy.py" "$@"
