#!/bin/sh
# Proves on a real cluster that nothing is lost, and that what should fail no request fails none; see tests/kubernetes/run.py, or --help.
exec python3 "$(dirname "$0")/../tests/kubernetes/run.py" "$@"
