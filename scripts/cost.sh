#!/usr/bin/env bash
# Measures what a question costs over real text, on one core:
#
#     scripts/cost.sh [COUNT [DIRECTORY]]     100,000 data unless given
#
# What it does    Makes COUNT data out of the text on this machine (corpus.py; a directory that it made before is used
#                 as it is), builds the release, and runs multivac-api, embedded, on the first core alone: HTTP, the
#                 queue, learning, the index and the answers. Four clients on the other core feed all data and then ask
#                 5,000 questions, each client one after the other, while nothing is fed; then again while 1,000 data a
#                 second are fed through /multivac/data; then the standing question, both ways.
# What it needs   python3, two cores, and a machine with nothing else to do. No servers, no network. Some two minutes once built.
# What it returns One table on the standard output. Status 1 if anything failed or was refused, or if the 99th
#                 percentile was not under 10 ms while nothing was fed, or not under 25 ms while it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly COUNT=${1:-100000} RATE=1000 ASKED=5000
. scripts/lib.sh
unset REDIS_URL MONGO_URL
temporary_directory cost
readonly corpus=${2:-$directory/corpus}

[[ -f $corpus/questions.txt ]] || python3 -W ignore scripts/corpus.py "$COUNT" "$corpus"
build --release --bench load
address=127.0.0.1:$(free_port)
start api taskset -c 0 "$MULTIVAC_BUILT_API" --listen "$address" --data-dir "$directory/data"
api=$pid

# measure NAME MODE…: one row of the table, from clients on the other core.
measure() {
    local name=$1
    shift
    printf 'cost: %s\n' "$name" >&2
    taskset -c 1 "$MULTIVAC_BUILT_LOAD" --target "$address" --connections "${connections:-4}" "$@" | sed "s|^[^\t]*|$name|" >>"$directory/table" && return
    tail -n 5 "$directory"/api*.log >&2
    exit 1
}

# meanwhile NAME MODE…: the same while data are fed, begun a second before.
meanwhile() {
    local feeding
    taskset -c 1 "$MULTIVAC_BUILT_LOAD" --target "$address" --connections 16 feed-from "$corpus/more.ndjson" $((RATE * 30)) $RATE \
        >>"$directory/fed" &
    feeding=$!
    sleep 1
    measure "$@"
    kill -0 "$feeding" || { echo "cost: the feeding ended before the asking" >&2; exit 1; }
    wait "$feeding"
}

ledger() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen("http://%s/multivac/stats" % sys.argv[1]).read().decode())' "$address"; }

connections=64 measure "feed" feed-from "$corpus/data.ndjson" "$COUNT" 1000000
measure "learned" learned "$COUNT"
measure "questions, nothing fed (first time)" ask-from "$corpus/questions.txt" 2000
measure "questions, nothing fed" ask-from "$corpus/questions.txt" $ASKED
measure "the standing question, nothing fed" ask 20000
meanwhile "questions, $RATE data/s fed" ask-from "$corpus/questions.txt" 4000
meanwhile "the standing question, $RATE data/s fed" ask 20000
awk '/^VmHWM/ { printf "memory of multivac-api: at most %.0f MiB\n", $2 / 1024 }' "/proc/$api/status" >>"$directory/table"
ledger >>"$directory/table"

printf '\n%s data, %s, %s\n' "$COUNT" "$(uname -m)" "$(date -u +%Y-%m-%d)"
sed "s/^[^\t]*/(fed meanwhile)/" "$directory/fed" >>"$directory/table"
print_table "$directory/table"
awk -F '\t' '$1 == "questions, nothing fed" && $7 >= 10 { slow = 1 } /^questions, .* data.s fed/ && $7 >= 25 { slow = 1 }
    END { exit slow }' "$directory/table" || { echo "cost: slower than it should be" >&2; exit 1; }
