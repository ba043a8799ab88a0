#!/usr/bin/env bash
# Injects faults into the full system under load, and checks that nothing that got a 200 is lost:
#
#     scripts/chaos.sh [SECONDS] [SEED] [--plan]     300 seconds and a seed from the clock unless given
#
# What it does    Builds the release, and starts servers and processes of its own: Redis with its append-only file,
#                 MongoDB as a replica set of three, two api replicas, three workers.
#                 1. Kills a worker that holds jobs, with the default lease, and measures how long it is until others
#                    hold them (at most 35 s) and until all 50,000 data are learned (at most 45 s).
#                 2. For two thirds of SECONDS, carries out a plan of faults: workers, api replicas, Redis and MongoDB's
#                    primary are killed, stopped (SIGTERM) or suspended (an api replica for up to 9 s); the primary steps
#                    down, or takes no writes so that calls hang; the disks of Redis and of the indexes are full; clocks
#                    are set by an hour, and back. Meanwhile 16 clients feed, in bulk too, some of it poison that MongoDB
#                    refuses; they retract, and ask all replicas for what was retracted; and the ledgers are polled.
#                 3. For the last third, the same on a Redis Cluster that loses masters, with --durability replicated.
#                 docs/operations.md explains the lines that it prints, and how to run it for a night.
# What it needs   what test-backends.sh needs; root, to mount small disks in memory, which are left out without it, with a
#                 line that says SKIPPED.
# What it returns 0 if every id that got a 200 is there once, or retracted, or, of poison, a dead letter; the ledger
#                 balanced whenever it was polled; no answer rested on what was retracted; and nothing is there that nobody
#                 fed. The same SEED makes the same plan, which `--plan` prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly TIME=${1:-300} SEED=${2:-$(date +%s)}

. scripts/lib.sh

build --release --bench chaos
# Servers of its own even where others are given: those are not to be killed.
run() { env -u MULTIVAC_TEST_REDIS_URL -u MULTIVAC_TEST_MONGO_URL scripts/test-backends.sh "$MULTIVAC_BUILT_CHAOS" "$@"; }

if [[ ${3:-} == --plan ]]; then exec "$MULTIVAC_BUILT_CHAOS" random --seconds "$TIME" --seed "$SEED" --plan; fi
status=0
run take-over || status=1
printf '\n'
run random --seconds $((TIME - TIME / 3)) --seed "$SEED" || status=1
printf '\n'
run random --seconds $((TIME / 3)) --seed "$SEED" --cluster --faults kill,stop,pause,step-down,hang,poison || status=1
exit $status
