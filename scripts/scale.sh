#!/usr/bin/env bash
# Measures how the full system grows, up to millions of data:
#
#     [DIRECTORY=scale] scripts/scale.sh [COUNT…]     1, 2, 5, 10 and 20 million unless given; for a trial 100000 200000
#
# What it does    Builds the release and starts Redis, MongoDB (a replica set of one, journal, majority), an api and a worker. Feeds
#                 long texts of 610 bytes on average (benches/load/texts.rs) up to each COUNT in turn, as fast as the worker learns
#                 them, and measures there: feed and learned a second; single POSTs; accepted to answered, alone and chained;
#                 questions with known answers at rest, and while 1,000 texts a second are fed; memory of each process, apart by what is
#                 its own and what are mapped files; what is on the disk; how soon the api is ready when it is started again, from nothing and
#                 with the index that it has kept. Then the embedded system with the first COUNT, at most a million.
#                 The databases stay in DIRECTORY, with a file of rows for each COUNT. A run that was ended goes on where it was: what is
#                 measured is not measured again, and what is fed is not fed again. A step takes some minutes a million.
# What it needs   what test-backends.sh needs; for 20 million data some 60 GB of disk in DIRECTORY, 20 GiB of memory (mongod's cache
#                 is 4 GiB of it, MONGO_CACHE_GB), hours, and an otherwise idle machine.
# What it returns DIRECTORY/COUNT.rows, and out of all that are there the marked tables of docs/performance.md and the plot
#                 docs/performance/growth.svg (scale-report.py; DOCS names another directory than docs, and a run with a COUNT writes none
#                 without it). Progress is on the standard error.
#                 Status 1 if anything failed, was refused or did not come in time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "${DIRECTORY:=scale}"
DIRECTORY=$(cd "$DIRECTORY" && pwd)
export DIRECTORY MULTIVAC_TEST_DIRECTORY=$DIRECTORY/servers MULTIVAC_TEST_MONGO_CACHE_GB=${MONGO_CACHE_GB:-4}
if [[ $# == 0 ]]; then
    set -- 1000000 2000000 5000000 10000000 20000000
    : "${DOCS=docs}"
fi
mkdir -p "$DIRECTORY"
for rows in "$DIRECTORY"/[0-9]*.rows; do
    [[ -e $rows ]] || continue
    [[ " $* " == *" $(basename "$rows" .rows) "* ]] || {
        echo "scale: $DIRECTORY has the data of another run, with $(basename "$rows" .rows): give another DIRECTORY" >&2
        exit 2
    }
done
readonly QUESTIONS=5000 BESIDE=1000 POSTS=20000 QUEUED=50000

. scripts/lib.sh

if [[ -z ${MULTIVAC_BUILT_LOAD:-} ]]; then build --release --bench load; fi
with_servers scale "$@"
unset REDIS_URL MONGO_URL
directory=$DIRECTORY
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf 'scale: %s %s\n' "$(date +%T)" "$*" >&2; }

# is_done PHASE: has it been measured in this step?
is_done() { grep -q "^$1	" "$rows"; }

# anew PHASE…: forgets what a run that was ended had measured of these, which belong together.
anew() {
    local phase
    for phase in "$@"; do sed -i "/^$phase\t/d" "$rows"; done
}

# row PHASE CELL…
row() { (IFS=$'\t'; printf '%s\n' "$*") >>"$rows"; }

# measure PHASE ARGUMENT…: the client's rows, unless they are there. All of a phase or nothing.
measure() {
    local phase=$1
    shift
    if is_done "$phase"; then return; fi
    say "$step data: $phase"
    "$MULTIVAC_BUILT_LOAD" --target "$address" --within $((600 + step / 2000)) --long "$@" >"$rows.new" || fail "$phase failed"
    sed "s|^|$phase\t|" "$rows.new" | tee -a "$rows" >&2
}

fail() {
    say "$1; the last of the logs:"
    tail -n 3 "$DIRECTORY"/*.log >&2
    exit 1
}

# memory PHASE NAME PID: resident, its own, and of files, in KiB, and the most that was ever resident.
memory() {
    awk -v OFS='\t' -v phase="$1" -v name="$2" '
        /^VmHWM/ { most = $2 } /^Rss:/ { resident = $2 } /^Pss_Anon:/ { own = $2 } /^Pss_File:/ { files = $2 }
        END { print phase, name, resident, own, files, most }' "/proc/$3/status" "/proc/$3/smaps_rollup" >>"$rows"
}

# disk NAME PATH: KiB.
disk() { row disk "$1" "$(du -sk "$2" | cut -f 1)"; }

ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# quiet PID: waits until a process has little to do (merges of the index), for five minutes at most.
quiet() {
    local before now n
    before=$(ticks "$1")
    for ((n = 0; n < 100; n++)); do
        sleep 3
        now=$(ticks "$1")
        [[ $((now - before)) -gt 15 ]] || return 0
        before=$now
    done
}

redis_bytes() {
    exec 3<>"/dev/tcp/127.0.0.1/$(cat "$MULTIVAC_TEST_DIRECTORY/redis.port")"
    printf 'INFO memory\r\nQUIT\r\n' >&3
    tr -d '\r' <&3 | sed -n 's/^used_memory://p'
    exec 3>&-
}

backends=(--redis-url "$MULTIVAC_TEST_REDIS_URL" --mongo-url "$MULTIVAC_TEST_MONGO_URL")

# start_api NAME [ARGUMENT…]: its index and its temporary files are in DIRECTORY; leaves $pid and $address.
start_api() {
    local name=$1
    shift
    mkdir -p "$DIRECTORY/$name"
    set -- "$@" --index-dir "$DIRECTORY/$name/index"
    address=127.0.0.1:$(free_port)
    start "$name" env TMPDIR="$DIRECTORY/$name" "$MULTIVAC_BUILT_API" --listen "$address" "$@"
}

start_worker() { start worker "$MULTIVAC_BUILT_WORKER" --health-listen "127.0.0.1:$(free_port)" "${backends[@]}"; }

# What a queued datum takes in Redis: only before the worker starts for the first time is the queue as long as it was fed.
queued() {
    local before=''
    [[ -e $DIRECTORY/$step.queued ]] || before=$(redis_bytes) # A run that was ended in the middle has no figure.
    measure queued bulk-text 0 "$QUEUED" "$DIRECTORY/$step.queued"
    row redis-bytes "${before:+$(($(redis_bytes) - before))}" "$QUEUED"
}

# restarted: the api, from what it has kept and from nothing. There is never more than one index on the disk.
restarted() {
    if is_done restarted; then return; fi
    anew fresh kept restart
    stop "$api"
    start_api api "${backends[@]}"
    measure kept ready "a replica with its kept index"
    memory restart kept "$pid"
    stop "$pid"
    rm -rf "$DIRECTORY/api"
    start_api api "${backends[@]}"
    api=$pid
    measure fresh ready "a fresh replica"
    quiet "$api"
    memory restart fresh "$api"
    row restart index "$(du -sk "$DIRECTORY/api" | cut -f 1)"
    row restarted measured
}

sizes() {
    if is_done sizes; then return; fi
    anew memory disk
    quiet "$api"
    memory memory api "$api"
    memory memory worker "$worker"
    memory memory redis "$MULTIVAC_TEST_REDIS_PID"
    memory memory mongod "$MULTIVAC_TEST_MONGOD_PID"
    disk "index" "$DIRECTORY/api"
    disk "redis" "$MULTIVAC_TEST_DIRECTORY/redis"
    disk "mongod" "$MULTIVAC_TEST_DIRECTORY/mongo"
    PYTHONPATH=${MULTIVAC_TEST_PYMONGO:-} python3 scripts/scale-report.py collections "$MULTIVAC_TEST_MONGO_URL" >>"$rows"
    row sizes measured
}

# one_step FROM TO
one_step() {
    measure fed bulk-text "$1" "$2" "$DIRECTORY/$step.fed"
    measure learned learned
    measure behind latency 1
    quiet "$api"
    measure alone latency 100
    measure chained latency 200 --chained
    measure rest --connections 1 ask-facts "$2" "$QUESTIONS"
    measure under --connections 1 --beside "$BESIDE" ask-facts "$2" "$QUESTIONS"
    measure posts feed "$POSTS"
    measure caught-up learned
    sizes
    restarted
    row done "$(date -u +%Y-%m-%d)" "$(nproc)"
}

embedded() {
    rows=$DIRECTORY/embedded.rows step=$(($1 < 1000000 ? $1 : 1000000))
    touch "$rows"
    if is_done done; then return; fi
    rm -rf "$DIRECTORY/embedded" "$DIRECTORY/embedded.fed" "$rows"
    touch "$rows"
    start_api embedded --data-dir "$DIRECTORY/embedded/data"
    measure fed bulk-text 0 "$step" "$DIRECTORY/embedded.fed"
    measure learned learned
    measure behind latency 1
    quiet "$pid"
    memory memory embedded "$pid"
    disk multivac.db "$DIRECTORY/embedded/data"
    stop "$pid"
    rm -rf "$DIRECTORY/embedded"
    row done "$(date -u +%Y-%m-%d)" "$(nproc)"
}

from=0 rows=/dev/null step=$1 worker='' api=''
start_api api "${backends[@]}"
api=$pid
# A run that was ended may have left an index that is to be made anew first.
"$MULTIVAC_BUILT_LOAD" --target "$address" --within 7200 ready "the api" >&2 || fail "the api does not become ready"
for step in "$@"; do
    rows=$DIRECTORY/$step.rows
    touch "$rows"
    if ! is_done done; then
        if [[ -z $worker && $from == 0 ]] && ! is_done redis-bytes && [[ $step -gt $QUEUED ]]; then queued; fi
        if [[ -z $worker ]]; then
            start_worker
            worker=$pid
        fi
        if [[ $from == 0 && $step -gt $QUEUED ]]; then one_step "$QUEUED" "$step"; else one_step "$from" "$step"; fi
    fi
    from=$step
done
stop_all
embedded "$1"
[[ -z ${DOCS:-} ]] || python3 scripts/scale-report.py "$DIRECTORY" "$DOCS"
