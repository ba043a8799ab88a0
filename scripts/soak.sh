#!/usr/bin/env bash
# Feeds the full system twice as much as its worker can learn, for minutes, and checks that all sizes stay bounded:
#
#     scripts/soak.sh [MINUTES] [DIRECTORY]     10 minutes, soak/ unless given
#
# What it does    Builds the release and starts Redis, MongoDB, an api that may queue 20,000 data or 32 MiB, and a worker
#                 that is paused (SIGSTOP) for nine tenths of each second, so that one machine can feed twice its rate. Feeds
#                 4 KiB texts at twice the rate at which the queue drains, by the api's own metrics, and samples sizes
#                 every five seconds.
# What it needs   what test-backends.sh needs, and a machine with little else to do.
# What it returns A table by the minute on the standard output, and soak.csv and soak.svg in the directory. Status 1 if a
#                 size went over its bound, the ledger did not balance, or a reply was neither 200 nor 503 with Retry-After.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly MINUTES=${1:-10} OUTPUT=${2:-soak}

. scripts/lib.sh

if [[ -z ${MULTIVAC_BUILT_API:-} ]]; then build --release; fi
with_servers soak "$MINUTES" "$OUTPUT"
mkdir -p "$OUTPUT"
exec python3 scripts/soak.py "$MINUTES" "$OUTPUT"
