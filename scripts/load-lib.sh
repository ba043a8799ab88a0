# shellcheck shell=bash
# What load.sh and cost.sh share: the parts of the full system, what the servers do by themselves, and how the two compare.
# Sourced behind lib.sh, not run; the script has a `measure ARGUMENT…` of its own, which runs the load client.

failed=

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
