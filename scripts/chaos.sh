#!/usr/bin/env bash
# Injects faults into the full system under load, and checks that nothing that got a 200 is lost:
#
#     scripts/chaos.sh [SECONDS] [SEED]     300 seconds and a seed from the clock unless given
#
# What it does    Builds the release, and starts servers and processes of its own: Redis with its append-only file,
#                 MongoDB as a replica set of three, two api replicas, three workers.
#                 1. Kills a worker that holds jobs, with the default lease, and measures how long it is until others
#                    hold them (at most 35 s) and until all 50,000 data are learned (at most 45 s).
#                 2. For SECONDS, kills workers, api replicas, Redis and MongoDB's primary at random and starts each
#                    again, or stops it (SIGTERM), pauses it (SIGSTOP) or has it step down. Meanwhile 16 clients feed,
#                    in bulk too, and retract through both replicas, whose ledgers are polled and which are asked.
#                 docs/operations.md explains the lines that it prints.
# What it needs   what test-backends.sh needs.
# What it returns 0 if every id that got a 200 is there once, or retracted; the ledger balanced whenever it was polled;
#                 and nothing is there that nobody fed. The same SEED kills and feeds in the same order.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly TIME=${1:-300} SEED=${2:-$(date +%s)}

. scripts/lib.sh

build --release --bench chaos
# Servers of its own even where others are given: those are not to be killed.
run() { env -u MULTIVAC_TEST_REDIS_URL -u MULTIVAC_TEST_MONGO_URL scripts/test-backends.sh "$MULTIVAC_BUILT_CHAOS" "$@"; }

status=0
run take-over || status=1
printf '\n'
run random --seconds "$TIME" --seed "$SEED" || status=1
exit $status
