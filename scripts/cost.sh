#!/usr/bin/env bash
# Measures what things cost: a question over real text, on one core; and what each thing that the full system does takes of the
# processors, beside what the servers take by themselves:
#
#     scripts/cost.sh [COUNT [DIRECTORY]]     100,000 data unless given
#
# What it does    Makes COUNT data out of the text on this machine (corpus.py; a directory that it made before is used
#                 as it is), builds the release, and runs multivac-api, embedded, on the first core alone: HTTP, the
#                 queue, learning, the index and the answers. Four clients on the other core feed all data and then ask
#                 5,000 questions, each client one after the other, while nothing is fed; then again while 1,000 data a
#                 second are fed through /multivac/data; then the standing question, both ways.
#                 Then the full system, on all cores, with COUNT short data as load.sh feeds them: posting, learning (with all that
#                 follows from it, until the data can be answered with), asking, a datum that is fed and answered with, and replicas that
#                 start; beside them redis-benchmark's XADD of entries as large, and insertMany of the very documents that were
#                 learned. Learning and insertMany once more where no api runs, and insertMany where one follows, until it can answer
#                 with all. (Rows of insertMany include reading the documents back first, and removing the copies.) Of each, how many
#                 microseconds of processor time it took, and of which process: unlike rates, that is much the same on a machine that
#                 has something else to do.
# What it needs   python3, two cores, and a machine with nothing else to do; for the full system what load.sh needs. Some minutes
#                 once built.
# What it returns Two tables on the standard output. Status 1 if anything failed or was refused, or if the 99th
#                 percentile was not under 10 ms while nothing was fed, or not under 25 ms while it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly COUNT=${1:-100000} RATE=1000 ASKED=5000
. scripts/lib.sh
if [[ -z ${MULTIVAC_BUILT_LOAD:-} ]]; then build --release --bench load; fi
with_servers cost "$@"
unset REDIS_URL MONGO_URL
temporary_directory cost
. scripts/load-lib.sh
readonly corpus=${2:-$directory/corpus}

# --- a question over real text, on one core ------------------------------------------------------------------------

# of_one_core NAME MODE…: one row of the table, from clients on the other core.
of_one_core() {
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
    of_one_core "$@"
    kill -0 "$feeding" || { echo "cost: the feeding ended before the asking" >&2; exit 1; }
    wait "$feeding"
}

ledger() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen("http://%s/multivac/stats" % sys.argv[1]).read().decode())' "$address"; }

one_core() {
    [[ -f $corpus/questions.txt ]] || python3 -W ignore scripts/corpus.py "$COUNT" "$corpus"
    address=$(free_address)
    start api taskset -c 0 "$MULTIVAC_BUILT_API" --listen "$address" --data-dir "$directory/data"
    say "Embedded, on one core, over real text"
    connections=64 of_one_core "feed" feed-from "$corpus/data.ndjson" "$COUNT" 1000000
    of_one_core "learned" learned "$COUNT"
    of_one_core "questions, nothing fed (first time)" ask-from "$corpus/questions.txt" 2000
    of_one_core "questions, nothing fed" ask-from "$corpus/questions.txt" $ASKED
    of_one_core "the standing question, nothing fed" ask 20000
    meanwhile "questions, $RATE data/s fed" ask-from "$corpus/questions.txt" 4000
    meanwhile "the standing question, $RATE data/s fed" ask 20000
    sed "s/^[^\t]*/(fed meanwhile)/" "$directory/fed" >>"$directory/table"
    memory multivac-api "$pid"
    say "$(ledger)"
    stop_all
}

# --- the full system, in processor time ----------------------------------------------------------------------------

# The processes whose time is told apart, and where a row has each.
readonly PARTS=(api worker redis mongod)

# measure ARGUMENT…: rows of the table, from the load client.
measure() {
    "$MULTIVAC_BUILT_LOAD" --target "$address" "$@" >>"$directory/table" && return
    tail -n 5 "$directory"/*.log >&2
    exit 1
}

# ticks: the processor time that each part has had, with spaces between them.
ticks() {
    local part
    for part in "${PARTS[@]}"; do
        if [[ -n ${process[$part]:-} ]]; then awk '{ print $14 + $15 }' "/proc/${process[$part]}/stat"; else echo 0; fi
    done | paste -sd ' '
}

# each WHAT COUNT COMMAND…: runs a command, and adds a row of what it took for each of COUNT: in all, of itself, of each part.
each() {
    local what=$1 count=$2 before TIMEFORMAT='%U %S'
    shift 2
    printf 'cost: %s\n' "$what" >&2
    before=$(ticks)
    { time "$@" 2>&3; } 3>&2 2>"$directory/client"
    echo "$before $(ticks) $(tail -n 1 "$directory/client")" |
        awk -v what="$what" -v count="$count" -v parts=${#PARTS[@]} -v second="$(getconf CLK_TCK)" '{
            all = client = $(2 * parts + 1) + $(2 * parts + 2)
            for (i = 1; i <= parts; i++) all += of[i] = ($(parts + i) - $i) / second
            printf "%s\t%d\t%.1f\t%.1f", what, count, all / count * 1e6, client / count * 1e6
            for (i = 1; i <= parts; i++) printf "\t%.1f", of[i] / count * 1e6
            print ""
        }' >>"$directory/costs"
}

# started WHAT: a row of what the replica that has just started ($pid) has taken until now.
started() {
    awk -v what="$1" -v second="$(getconf CLK_TCK)" '{ printf "%s\t1\t%.0f\t-\t%.0f\t-\t-\t-\n", what, ($14 + $15) / second * 1e6, ($14 + $15) / second * 1e6 }' \
        "/proc/$pid/stat" >>"$directory/costs"
}

# shares NAME ROW ROW: how what two rows took of the processors compares, their clients left out.
shares() {
    awk -F '\t' -v name="$1" -v what="$2" -v than="$3" '$1 == what { a = $3 - $4 } $1 == than { b = $3 - $4 }
        END { if (!a) exit 1; printf "%s, processor time without the clients: %.2f\n", name, b / a }' "$directory/costs" >"$directory/ratio"
    cat "$directory/ratio" >>"$directory/costs"
}

# until_answered: waits until all that was learned can be answered with.
until_answered() { measure learned "$1" && measure latency 1; }

full_system() {
    local backends=(--redis-url "$MULTIVAC_TEST_REDIS_URL" --mongo-url "$MULTIVAC_TEST_MONGO_URL")
    local xadd="XADD of the same by redis-benchmark" insert="the same by insertMany alone"
    say "Full system: api, one worker, Redis, MongoDB"
    address=$(free_address)
    start api "$MULTIVAC_BUILT_API" --listen "$address" "${backends[@]}"
    process=([api]=$pid [redis]=$MULTIVAC_TEST_REDIS_PID [mongod]=$MULTIVAC_TEST_MONGOD_PID)
    each "$xadd" "$COUNT" xadd "$COUNT"
    each "POST /multivac/data" "$COUNT" measure feed "$COUNT"
    ratio "POST against XADD" "feed /multivac/data: accepted" "$xadd"
    shares "POST against XADD" "POST /multivac/data" "$xadd"
    each "a line of POST /multivac/data/bulk" "$COUNT" measure --seed 2 bulk "$COUNT"
    start worker "$MULTIVAC_BUILT_WORKER" --health-listen "$(free_address)" "${backends[@]}"
    process[worker]=$pid
    each "learned, until it can be answered with" $((2 * COUNT)) until_answered $((2 * COUNT))
    each "$insert" "$COUNT" measure insert-many "$COUNT" --at-once "$(nproc)"
    ratio "learned against insertMany" learned "$insert"
    shares "learned and indexed against insertMany" "learned, until it can be answered with" "$insert"
    each "various questions" $((COUNT / 10)) measure ask-various $((COUNT / 10))
    each "fed and asked for until answered, alone" 100 measure latency 100
    each "fed and asked for until answered, chained" 200 measure latency 200 --chained
    measure --seed 3 --beside 8000 latency 200
    measure --seed 4 --beside 8000 ask-various $((COUNT / 10))
    measure latency 1
    memory multivac-api "${process[api]}"
    memory multivac-worker "${process[worker]}"
    memory redis-server "${process[redis]}"
    memory mongod "${process[mongod]}"
    replicas started
    stop_all
}

one_core
full_system
like_with_like "$COUNT"
shares "learned against insertMany, nobody following either" "learned, no api running" "insertMany of the same, no api running"
shares "learned and indexed against insertMany, an api following both" "learned, until it can be answered with" \
    "insertMany of the same, an api following"

printf '\n%s data, %s, %s\n' "$COUNT" "$(uname -m)" "$(date -u +%Y-%m-%d)"
print_table "$directory/table"
printf '\nThe full system, microseconds of processor time for each:\n'
{ printf 'what\tcount\tin all\tclient'; printf '\t%s' "${PARTS[@]}"; echo; cat "$directory/costs"; } |
    awk -F '\t' 'NF < 2 { print; next } { printf "%-44s %8s %9s %9s %9s %9s %9s %9s\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
[[ -z $failed ]]
awk -F '\t' '$1 == "questions, nothing fed" && $7 >= 10 { slow = 1 } /^questions, .* data.s fed/ && $7 >= 25 { slow = 1 }
    END { exit slow }' "$directory/table" || { echo "cost: slower than it should be" >&2; exit 1; }
