#!/usr/bin/env bash
# Measures what clients that watch an answer cost:
#
#     [QUESTIONS=N] [DATA=N] scripts/watchers.sh [COUNT]     10,000 streams, and 20,000 of each other, unless given
#
# What it does    Builds the release, starts the embedded system with empty data, and teaches it 20,000 data. Feeds and asks it
#                 with nobody watching; has COUNT event streams watch one question, and changes its answer 20 times; then feeds
#                 and asks again while they stay open. The streams are sent the ledger each second while it changes.
# What it needs   as many open files as COUNT, and a third more (ulimit -n), and an otherwise idle machine, of which the clients
#                 take about half.
# What it returns One table, with the memory that each stream takes. Status 1 if anything failed or did not come in time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly COUNT=${1:-10000} QUESTIONS=${QUESTIONS:-20000} DATA=${DATA:-20000} HOLD=60

. scripts/lib.sh

if [[ -z ${MULTIVAC_BUILT_LOAD:-} ]]; then build --release --bench load; fi
temporary_directory watchers
ulimit -n "$(ulimit -Hn)"
unset REDIS_URL MONGO_URL
address=127.0.0.1:$(free_port)

say() { printf '%s\n' "$1" >>"$directory/table"; }
measure() { "$MULTIVAC_BUILT_LOAD" --target "$address" "$@" >>"$directory/table"; }
memory_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$api/status"; }

start embedded "$MULTIVAC_BUILT_API" --listen "$address" --data-dir "$directory/data"
api=$pid
measure --seed 1 bulk "$DATA"
measure learned "$DATA"
say 'Nobody watches'
measure ask-various "$QUESTIONS"
measure --seed 2 feed "$DATA"
measure learned $((2 * DATA))
before=$(memory_kib)
say "$COUNT watch"
"$MULTIVAC_BUILT_LOAD" --target "$address" watch "$COUNT" 20 $HOLD >"$directory/watched" &
watching=$!
running+=($watching)
until_true 300 grep -q 'to the last' "$directory/watched"
cat "$directory/watched" >>"$directory/table"
say "memory: $(((  $(memory_kib) - before ) * 1024 / COUNT)) bytes for each, of the process in all $(( $(memory_kib) / 1024 )) MiB, before $((before / 1024)) MiB"
measure ask-various "$QUESTIONS"
measure --seed 3 feed "$DATA"
measure learned $((3 * DATA))
failed=
wait $watching || failed=yes
stop_all
printf '%s streams, %s cores, %s\n' "$COUNT" "$(nproc)" "$(date -u +%Y-%m-%d)"
print_table "$directory/table"
[[ -z $failed ]]
