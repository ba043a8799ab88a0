#!/bin/sh
# The name that setup.py had before.
exec python3 "$(dirname "$0")/setup.py" "$@"
