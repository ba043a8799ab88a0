#!/usr/bin/env bash
# Measures what traces cost the full system: data fed, learned and questions answered a second, without an endpoint, with one in a
# hundred sampled, and with all:
#
#     scripts/trace-cost.sh [COUNT [ROUNDS]]     50,000 data and 3 rounds unless given
#
# What it does    Builds the release (MULTIVAC_PROFILE=dev: the debug build), and in each round starts api and worker on the same
#                 Redis and MongoDB, under a namespace and a database of their own, once for each of the three: in another order
#                 each round, so that what comes first is not always the same. Feeds COUNT data through /multivac/data (64
#                 connections), starts the worker, waits until all are learned, and asks COUNT / 10 various questions. Spans go to
#                 a receiver of its own that reads and forgets them.
# What it needs   what test-backends.sh needs, and an otherwise idle machine.
# What it returns Each measurement as it came, and a table of the medians with the share of those without an endpoint. Status 1 if
#                 anything failed or was refused, or if no spans came where they should.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly COUNT=${1:-50000} ROUNDS=${2:-3}

. scripts/lib.sh

if [[ -z ${MULTIVAC_BUILT_LOAD:-} ]]; then
    if [[ ${MULTIVAC_PROFILE:-release} == release ]]; then build --release --bench load; else build --bench load; fi
fi
with_servers trace-cost "$COUNT" "$ROUNDS"
unset REDIS_URL MONGO_URL
temporary_directory trace-cost

cat >"$directory/receiver.py" <<'PYTHON'
import http.server, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received = 0

    def do_POST(self):
        Receiver.received += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        body = str(Receiver.received).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
PYTHON
readonly receiver=127.0.0.1:$(free_port)
start receiver python3 "$directory/receiver.py" "${receiver#*:}"
received() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen("http://%s/" % sys.argv[1]).read().decode())' "$receiver"; }
is_up() { received >/dev/null 2>&1; }
until_true 20 is_up

# Our programs, and not the receiver.
ours=()
end_ours() {
    local pid
    for pid in "${ours[@]}"; do kill -TERM "$pid"; done
    for pid in "${ours[@]}"; do timeout 35 tail --pid="$pid" -f /dev/null; done
    ours=()
}

# measure ROUND HOW MODE COUNT: one row of the table.
measure() {
    local round=$1 how=$2
    shift 2
    printf 'trace-cost: round %s, %s: %s\n' "$round" "$how" "$*" >&2
    "$MULTIVAC_BUILT_LOAD" --target "$address" "$@" | sed "s|^|$round\t$how\t|" | tee -a "$directory/rows" && return
    tail -n 5 "$directory"/*.log >&2
    exit 1
}

# run ROUND HOW [VARIABLE=VALUE…]: all that is measured, once.
run() {
    local round=$1 how=$2 name before
    shift 2
    name=trace_cost_${round}_${how//[^a-z0-9]/}
    local database=${MULTIVAC_TEST_MONGO_URL%%\?*} options=${MULTIVAC_TEST_MONGO_URL#*\?}
    local backends=(--redis-url "$MULTIVAC_TEST_REDIS_URL" --mongo-url "${database%/*}/$name?$options" --namespace "$name")
    before=$(received)
    address=127.0.0.1:$(free_port)
    start api env "$@" "$MULTIVAC_BUILT_API" --listen "$address" "${backends[@]}"
    ours+=("$pid")
    measure "$round" "$how" feed "$COUNT"
    start worker env "$@" "$MULTIVAC_BUILT_WORKER" --health-listen "127.0.0.1:$(free_port)" "${backends[@]}"
    ours+=("$pid")
    measure "$round" "$how" learned "$COUNT"
    measure "$round" "$how" latency 1
    measure "$round" "$how" ask-various $((COUNT / 10))
    end_ours
    [[ $how == off || $(received) -gt $before ]] || { echo "trace-cost: no spans came with $how" >&2; exit 1; }
}

readonly SEND=(OTEL_EXPORTER_OTLP_ENDPOINT="http://$receiver" OTEL_TRACES_SAMPLER=parentbased_traceidratio)
hows=(off 1% 100%)
for ((round = 1; round <= ROUNDS; round++)); do
    for how in "${hows[@]}"; do
        case $how in
            off) run "$round" "$how" ;;
            1%) run "$round" "$how" "${SEND[@]}" OTEL_TRACES_SAMPLER_ARG=0.01 ;;
            100%) run "$round" "$how" "${SEND[@]}" OTEL_TRACES_SAMPLER_ARG=1 ;;
        esac
    done
    hows=("${hows[@]:1}" "${hows[0]}")
done

printf '\n%s data, %s rounds, %s cores, %s\n' "$COUNT" "$ROUNDS" "$(nproc)" "$(date -u +%Y-%m-%d)"
python3 - "$directory/rows" <<'PYTHON'
import statistics, sys

rates = {}
for row in open(sys.argv[1]):
    _, how, what, _, _, rate, *_ = row.rstrip("\n").split("\t")
    what = what.split(",")[0]
    rates.setdefault(what, {}).setdefault(how, []).append(float(rate.replace(",", "")))
print("%-34s %12s %20s %20s" % ("a second (medians)", "no endpoint", "1 % sampled", "100 % sampled"))
for what, by in rates.items():
    if "to answered" in what or set(by) != {"off", "1%", "100%"}:
        continue
    off, *others = (statistics.median(by[how]) for how in ("off", "1%", "100%"))
    print("%-34s %12.0f" % (what, off), *("%12.0f (%3.0f %%)" % (rate, 100 * rate / off) for rate in others))
PYTHON
