# shellcheck shell=bash
# What load.sh and cost.sh share: the parts of the full system, what the servers do by themselves, and how the two compare.
# Sourced behind lib.sh, not run; the script has a `measure ARGUMENT…` of its own, which runs the load client.

failed=

# The processes whose use of the processors cost.sh tells apart, as far as they run.
declare -A process=()

free_address() { echo "127.0.0.1:$(free_port)"; }

say() { printf '%s\n' "$1" >>"$directory/table"; }

# memory NAME PID: what it holds now, and the most it ever held.
memory() {
    awk -v name="$1" '/^VmHWM/ { most = $2 } /^VmRSS/ { now = $2 }
        END { printf "memory of %s: %.0f MiB, at most %.0f MiB\n", name, now / 1024, most / 1024 }' \
        "/proc/$2/status" >>"$directory/table" || failed=yes
}

# xadd COUNT: one row of the table, from redis-benchmark. The text is as long as those of the load client are on average, and the
# other fields are those of an entry.
xadd() {
    local text='The pensive astronomer measured every distant galaxy over the wide plain in the north.'
    local port=${MULTIVAC_TEST_REDIS_URL##*:}
    printf 'redis-benchmark XADD %s\n' "$1" >&2
    redis-benchmark -p "$port" -c 64 -n "$1" --csv XADD multivac-load '*' id 01890a5d-ac96-774b-bcce-b302099a8057 \
        at 1700000000000 attempts 0 data "$text" trace 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00 |
        awk -F '","' -v OFS='\t' -v count="$1" '{ gsub(/^"|"$/, "") } END {
            printf "XADD of the same by redis-benchmark\t%d\t%.2f\t%.0f\t%s\t-\t%s\t%s\t0\n", count, count / $2, $2, $5, $7, $8 }' \
            >>"$directory/table" || failed=yes
    redis-benchmark -p "$port" -n 1 -q DEL multivac-load >/dev/null
}

# ratio NAME ROW ROW: how the rates of two rows of the table compare.
ratio() {
    awk -F '\t' -v name="$1" -v what="$2" -v than="$3" '$1 == what && !a { a = $4 } $1 == than && !b { b = $4 }
        END { if (!b) exit 1; printf "%s: %.2f\n", name, a / b }' "$directory/table" >"$directory/ratio" || { failed=yes; return; }
    cat "$directory/ratio" >>"$directory/table"
}

# another NAME ARGUMENT…: one more replica of the full system ($backends), and how soon it is ready; leaves its process in $pid.
another() {
    local listening=$address what=$1
    shift
    address=$(free_address)
    mkdir -p "$directory/another"
    start another env TMPDIR="$directory/another" "$MULTIVAC_BUILT_API" --listen "$address" "${backends[@]}" "$@"
    measure ready "$what"
    address=$listening
}

# replicas [COMMAND…]: three of them, one after the other, with an index of their own, one to keep, and a kept one. The command is
# run with the name of each while it is there.
replicas() {
    local look=("$@")
    another "a fresh replica: ready"
    memory "the fresh replica" "$pid"
    say "its index on the disk: $(du -sm "$directory/another" | cut -f 1) MiB"
    "${look[@]}" "a fresh replica: ready"
    stop "$pid"
    another "a replica that makes an index to keep: ready" --index-dir "$directory/kept"
    "${look[@]}" "a replica that makes an index to keep: ready"
    stop "$pid"
    another "a replica with its kept index: ready" --index-dir "$directory/kept"
    "${look[@]}" "a replica with its kept index: ready"
    stop "$pid"
}

# replica_of NAME: starts an api on the same servers, with a queue and a database of its own, which have that name; `backends` has them.
replica_of() {
    backends=(--redis-url "$MULTIVAC_TEST_REDIS_URL" --namespace "$1" --mongo-url "${MULTIVAC_TEST_MONGO_URL/\/\?//$1?}")
    address=$(free_address)
    start api "$MULTIVAC_BUILT_API" --listen "$address" "${backends[@]}" --max-queued $((3 * count))
    process[api]=$pid
    measure ready "an api of its own: ready"
}

# like_with_like COUNT: learning and insertMany where both have to do the same beside. A worker learns what was queued while no api
# runs that would follow it, and then MongoDB takes the same where nobody follows; and MongoDB takes it where an api does follow.
# What is measured is run by the script's own `each NAME COUNT COMMAND…`.
like_with_like() {
    local count=$1 backends health insert="insertMany of the same, no api running" followed="insertMany of the same, an api following"
    process[worker]=''
    replica_of alone
    measure --seed 6 bulk "$count"
    stop "$pid"
    process[api]=''
    health=$(free_address)
    start worker "$MULTIVAC_BUILT_WORKER" --health-listen "$health" "${backends[@]}"
    process[worker]=$pid
    address=$health
    each "learned, no api running" "$count" measure learned-by "$count"
    each "$insert" "$count" insert_again "$insert"
    ratio "learned against insertMany, nobody following either" "learned, no api running" "$insert"
    replica_of alone
    # The api finds what was learned without it: what is fed now is answered with.
    measure latency 1
    stop_all
    process[worker]=''
    replica_of followed
    each "$followed" "$count" insert_followed
    ratio "learned against insertMany, an api following both" learned "$followed"
    stop_all
    process[api]=''
}

# insert_again NAME [ARGUMENT…]: inserts what was learned while no api ran.
insert_again() {
    local name=$1
    shift
    measure insert-many "$count" --at-once "$(nproc)" --what "$name" --mongo-url "${MULTIVAC_TEST_MONGO_URL/\/\?//alone?}" "$@"
}

insert_followed() { insert_again "$followed" --into followed && measure indexed "$count"; }
