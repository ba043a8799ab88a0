#!/usr/bin/env bash
# Measures the whole system under load, first with Redis, MongoDB and one worker, then embedded:
#
#     scripts/load.sh [COUNT]     100,000 unless given
#
# What it does    Builds the release, starts servers and processes of its own with empty data, and on each
#                 system: feeds COUNT short data through /multivac/data (64 connections) and COUNT through
#                 /multivac/data/bulk, waits until all are learned, asks COUNT times the standing question
#                 and a tenth as often various ones, 10,000 at most, of 64 connections; one asker's questions while 1,000 a second
#                 are fed. Then the time from a datum to its answer: each datum alone, each as soon as the one before is
#                 answered, and alone while 8,000 a second are fed beside it; and questions while as many are fed. On the
#                 full system also how soon a second replica is ready, with nothing and with an index that it has kept. There
#                 the worker starts after the feeding, so that accepting and learning are measured apart; the embedded one
#                 learns while it is fed. Beside them stands what the servers do by themselves, in the same run:
#                 redis-benchmark's XADD of entries as large, one request for each, from as many connections; and insertMany of
#                 the very documents that were learned, as durably, in batches as large and as many at once. That comparison is
#                 made twice more, like with like: the worker learns COUNT data while no api runs, and then nobody follows
#                 insertMany either; and insertMany is followed by an api as learning is.
# What it needs   what test-backends.sh needs, redis-benchmark (Debian's redis-tools), and an otherwise idle machine.
# What it returns One table on the standard output (learned/s counts from the first datum accepted, or from the
#                 worker's start); with ROWS=FILE also its rows, with tabs between the cells, for scale-report.py.
#                 Status 1 if anything failed, was refused or did not come in time; then it says what, with the end
#                 of the process's log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly COUNT=${1:-100000} BESIDE=8000
readonly VARIOUS=$((COUNT < 100000 ? COUNT / 10 : 10000))

. scripts/lib.sh

if [[ -z ${MULTIVAC_BUILT_LOAD:-} ]]; then build --release --bench load; fi
with_servers load "$COUNT"
unset REDIS_URL MONGO_URL
temporary_directory load
. scripts/load-lib.sh

heading() { printf '\n%s\n' "$1" >>"$directory/table"; }

# measure MODE COUNT: one row of the table, from the client.
measure() {
    printf 'load: %s\n' "$*" >&2
    "$MULTIVAC_BUILT_LOAD" --target "$address" --within $((300 + COUNT / 1000)) "$@" | tee -a "$directory/table" >&2 && return
    failed=yes
    printf 'load: %s failed; the last of the logs:\n' "$*" >&2
    tail -n 5 "$directory"/*.log >&2
    kill -0 "${running[0]}" 2>/dev/null || exit 1 # The api is gone: nothing else could be measured.
}

questions() {
    # The first answer after the load shows how far the index was behind. Without waiting for it, the questions would be
    # answered from an index that is still being filled.
    measure latency 1
    measure ask "$COUNT"
    measure ask-various $VARIOUS
}

questions_beside_feed() {
    measure --seed 5 --beside 1000 --connections 1 ask-various $((VARIOUS / 4))
    measure latency 100
    measure latency 200 --chained
    measure --seed 3 --beside $BESIDE latency 200
    measure --seed 4 --beside $BESIDE ask-various $VARIOUS
    # All that was fed beside it is answered with.
    measure latency 1
}

full_system() {
    local api worker backends
    backends=(--redis-url "$MULTIVAC_TEST_REDIS_URL" --mongo-url "$MULTIVAC_TEST_MONGO_URL")
    heading "Full system: api, one worker, Redis, MongoDB"
    address=$(free_address)
    start api "$MULTIVAC_BUILT_API" --listen "$address" "${backends[@]}" --max-queued $((3 * COUNT))
    api=$pid
    xadd "$COUNT"
    measure feed "$COUNT"
    ratio "POST against XADD" "feed /multivac/data: accepted" "XADD of the same by redis-benchmark"
    measure --seed 2 bulk "$COUNT"
    start worker "$MULTIVAC_BUILT_WORKER" --health-listen "$(free_address)" "${backends[@]}"
    worker=$pid
    measure learned $((2 * COUNT))
    measure insert-many "$COUNT" --at-once "$(nproc)"
    ratio "learned against insertMany" learned "the same by insertMany alone"
    questions
    memory multivac-api "$api"
    memory multivac-worker "$worker"
    memory redis-server "$MULTIVAC_TEST_REDIS_PID"
    memory mongod "$MULTIVAC_TEST_MONGOD_PID"
    replicas true
    questions_beside_feed
    stop_all
}

# each NAME COUNT COMMAND…: what cost.sh counts processor time of.
each() { shift 2 && "$@"; }

embedded() {
    local api learning
    heading "Embedded: one process"
    address=$(free_address)
    start embedded "$MULTIVAC_BUILT_API" --listen "$address" --data-dir "$directory/data" --max-queued $((3 * COUNT))
    api=$pid
    (measure learned $((2 * COUNT)) && [[ -z $failed ]]) &
    learning=$!
    measure feed "$COUNT"
    measure --seed 2 bulk "$COUNT"
    wait $learning || failed=yes
    questions
    memory multivac-api "$api"
    questions_beside_feed
    stop_all
}

full_system
heading "Full system, like with like: learning while no api runs, and insertMany without an api and with one that follows"
like_with_like "$COUNT"
embedded

printf '\n%s data, %s cores, %s\n' "$COUNT" "$(nproc)" "$(date -u +%Y-%m-%d)"
print_table "$directory/table"
[[ -z ${ROWS:-} ]] || cp "$directory/table" "$ROWS"
[[ -z $failed ]]
