#!/usr/bin/env bash
# Tries what the edge shows of itself, its metrics and its log, under traffic that is known: a real nginx with the configuration of
# deploy/nginx in front of a stand-in for the api (e2e-replica.py). e2e.sh runs it.
#
#     scripts/e2e-observe.sh
#
# What it needs   nginx (or MULTIVAC_TEST_NGINX), curl, openssl, getent, python3. promtool checks the format where it is there.
# What it returns 0 if every rule holds, else 1; a line for each rule. Half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh
. scripts/e2e-lib.sh
temporary_directory observe

readonly SECRETS=$directory/secrets
MULTIVAC_SECRETS=$SECRETS MULTIVAC_ENV_FILE=$directory/env scripts/setup.py 2>/dev/null
PASSWORD=$(MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user susan 2>/dev/null)
readonly PASSWORD

https=$(free_port) http=$(free_port) metrics=$(free_port)
readonly BASE=https://localhost:$https
METRICS=http://127.0.0.1:$metrics/metrics

start replica scripts/e2e-replica.py "$directory/told" "$directory/fenced" "$directory/answers"
replica=$pid
until_true 10 test -s "$directory/replica.log" || fail "the replica does not start"
port=$(<"$directory/replica.log")

# --- settings ---------------------------------------------------------------------------------------------------

refuses() { # SETTING EXPECTED
    local refused=0
    (edge "$directory/refused" 1 2 127.0.0.1:9 "$1") >"$directory/refused.log" 2>&1 || refused=$?
    [[ $refused != 0 ]] && grep -q "$2" "$directory/refused.log"
}
rule 'a log format that is none is refused' refuses MULTIVAC_EDGE_LOG_FORMAT=gpc 'is json or gcp, not gpc'
rule 'a port of the metrics that is none is refused' refuses MULTIVAC_EDGE_METRICS_LISTEN=localhost 'a port, an address and a port, or off, not localhost'
refuses_project() { MULTIVAC_GCP_PROJECT='a/b' refuses MULTIVAC_EDGE_LOG_FORMAT=gcp "is a project's id"; }
rule 'a project that is none is refused' refuses_project
refuses_lines() {
    local setting
    for setting in MULTIVAC_EDGE_METRICS_LISTEN=9113 MULTIVAC_EDGE_RATE=5 MULTIVAC_EDGE_API=127.0.0.1:9 MULTIVAC_GCP_PROJECT=my-project-1; do
        status="$setting and another line"
        refuses "$setting"$'\n''x"' 'has a line break in it' || return 1
        refuses "${setting/=/=$'x\n'}" 'has a line break in it' || return 1
    done
}
rule 'a setting of several lines is refused, whichever of them is right' refuses_lines

# --- metrics ----------------------------------------------------------------------------------------------------

start edge edge "$directory/edge" "$https" "$http" "127.0.0.1:$port,127.0.0.1:9" "MULTIVAC_EDGE_METRICS_LISTEN=127.0.0.1:$metrics" \
    MULTIVAC_EDGE_STALE=on MULTIVAC_EDGE_RATE=5 MULTIVAC_EDGE_BURST=30 MULTIVAC_EDGE_OPEN_CONNECTIONS=20
edge_pid=$pid

scrape() { curl --silent --noproxy '*' --max-time 5 --fail "$METRICS" >"$directory/scrape"; }
# value NAME{LABELS}: of the last scrape; empty where it is absent.
value() { awk -v name="$1" '$1 == name { print $2 }' "$directory/scrape"; }
is() { # [NAME VALUE]…
    scrape || return 1
    while [[ $# -gt 0 ]]; do
        status="$1 is $(value "$1"), not $2"
        [[ $(value "$1") == "$2" ]] || return 1
        shift 2
    done
}
counters_are_there() {
    local name missing=''
    until_true 15 scrape || return 1
    for name in reloads_total reload_failures_total limited_total stale_total 'requests_total{status="2xx"}' \
        'requests_total{status="3xx"}' 'requests_total{status="4xx"}' 'requests_total{status="5xx"}'; do
        [[ $(value "multivac_edge_$name") == 0 ]] || missing+=" $name"
    done
    status="missing or not 0:$missing"
    [[ -z $missing ]]
}
rule 'every counter is there from the first scrape, at 0' counters_are_there
rule 'replicas, one ready and one not' until_true 10 is 'multivac_edge_replicas{state="ready"}' 1 'multivac_edge_replicas{state="unready"}' 1
plain_text() { send "$METRICS" && [[ $status == 200 && $(header content-type) == 'text/plain; version=0.0.4; charset=utf-8' ]]; }
rule "the format is Prometheus' text" plain_text
if command -v promtool >/dev/null; then
    valid() { status=$(promtool check metrics <"$directory/scrape" 2>&1); }
    rule 'promtool finds nothing to say of it' valid
else
    echo 'observe: SKIPPED: promtool check metrics: there is no promtool'
fi
certificate_ends() {
    local ends
    scrape || return 1
    ends=$(date -d "$(openssl x509 -noout -enddate -in "$1" | cut -d= -f2)" +%s)
    status="$(value multivac_edge_certificate_expires_seconds) s, by openssl $((ends - $(date +%s))) s"
    awk -v shown="$(value multivac_edge_certificate_expires_seconds)" -v real=$((ends - $(date +%s))) \
        'BEGIN { exit !(shown != "" && shown - real < 10 && real - shown < 10) }'
}
rule 'the end of the certificate is what openssl says' until_true 15 certificate_ends "$SECRETS/edge/tls.crt"
rule 'asking for the certificate and for the health is no request' is 'multivac_edge_requests_total{status="4xx"}' 0 'multivac_edge_requests_total{status="2xx"}' 0

curl_all() { curl_edge --output /dev/null "$@"; }
known_traffic() {
    touch "$directory/answers"
    curl_all "$BASE/zzz?[1-7]" && curl_all "$BASE/multivac" &&
        curl_all "http://127.0.0.1:$http/zzz?[1-3]" && curl_all "http://127.0.0.1:$http/healthz?[1-5]" &&
        curl_all "$BASE/nothing?[1-4]" && curl_all -X POST "$BASE/multivac/data"
    rm "$directory/answers"
    curl_all --interface 127.0.0.2 --config <(printf 'user = "susan:%s"' "$PASSWORD") "$BASE/multivac/data" -d 'data=x'
}
known_traffic
rule 'requests are counted by the class of their status' until_true 10 is 'multivac_edge_requests_total{status="2xx"}' 8 \
    'multivac_edge_requests_total{status="3xx"}' 3 'multivac_edge_requests_total{status="4xx"}' 5 'multivac_edge_requests_total{status="5xx"}' 1
curl_edge --interface 127.0.0.3 --output /dev/null --write-out '%{http_code}\n' "$BASE/zzz?[1-60]" >"$directory/burst" || true
limited=$(grep -c 429 "$directory/burst") served=$(grep -c 200 "$directory/burst")
rule "of 60 at once, $limited are counted as limited" until_true 10 is multivac_edge_limited_total "$limited" \
    'multivac_edge_requests_total{status="4xx"}' $((5 + limited)) 'multivac_edge_requests_total{status="2xx"}' $((8 + served))
not_http() { printf 'hello\r\n\r\n' | timeout 5 openssl s_client -quiet -connect "127.0.0.1:$https" >/dev/null 2>&1 || true; }
not_http
rule 'what is no HTTP counts as 4xx' until_true 10 is 'multivac_edge_requests_total{status="4xx"}' $((6 + limited))
if grep -q /stream.conf "$directory/edge/nginx.conf"; then
    scripts/e2e-clients.py hold "$https" 127.0.0.10 40 >/dev/null 2>&1 || true
    refused() { is multivac_edge_connections_refused_total 20; }
    rule 'connections beyond the limit are counted' until_true 10 refused
fi
held_open() {
    local seen
    scrape || return 1
    seen=$(value 'multivac_edge_connections{state="active"}')
    status="active: $seen; waiting: $(value 'multivac_edge_connections{state="waiting"}')"
    [[ $seen == "$1" && $(value 'multivac_edge_connections{state="writing"}') == "$1" ]]
}
rule 'no connection is open' until_true 10 held_open 0
curl_edge --no-buffer --output /dev/null --interface 127.0.0.4 "$BASE/multivac/events" &
running+=($!)
curl_edge --no-buffer --output /dev/null --interface 127.0.0.5 "$BASE/multivac/events" &
running+=($!)
rule 'two are, once two clients listen to events' until_true 10 held_open 2
touch "$directory/told"
rule 'and none again' until_true 10 held_open 0

# Traces: the api decides what is sampled.
passed() { # TRACEPARENT-SENT PASSED-ON TRACESTATE-PASSED-ON
    send --interface 127.0.0.6 "$BASE/zzz" -H "traceparent: $1" -H 'tracestate: a=b' &&
        [[ $(json_of traceparent) == "$2" && $(json_of tracestate) == "$3" && $(json_of x-request-id) == "$(header x-request-id)" ]]
}
readonly PARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331
rule "the client's trace is passed on as it came, sampled" passed $PARENT-01 $PARENT-01 a=b
rule 'or not' passed $PARENT-00 $PARENT-00 a=b
rule 'one that cannot be read is not, nor is its state' passed $PARENT None None
no_trace() { send --interface 127.0.0.6 "$BASE/zzz" && [[ $(json_of traceparent) == None && $(json_of x-request-id) =~ ^[0-9a-f]{32}$ ]]; }
rule 'the edge invents none' no_trace

# Ten seconds in one file, ten in the other: what is counted is removed, and nothing is lost.
small() { status=$(wc -c "$directory"/edge/count.[01]) && [[ $(cat "$directory"/edge/count.[01] | wc -c) -lt 10 ]]; }
rule 'what is counted is removed' until_true 40 small
none_is_lost() {
    local http metrics sent=0 until=$((SECONDS + 42))
    http=$(free_port) metrics=$(free_port)
    start busy edge "$directory/busy" "$(free_port)" "$http" 127.0.0.1:9 "MULTIVAC_EDGE_METRICS_LISTEN=127.0.0.1:$metrics" \
        MULTIVAC_EDGE_RATE=100000 MULTIVAC_EDGE_BURST=100000
    until_true 15 curl_all "http://127.0.0.1:$http/healthz" || return 1
    while [[ $SECONDS -lt $until ]]; do
        curl_all "http://127.0.0.1:$http/zzz?[1-1000]" && sent=$((sent + 1000)) || return 1
    done
    counted() { METRICS=http://127.0.0.1:$metrics/metrics is 'multivac_edge_requests_total{status="3xx"}' "$sent"; }
    lossless="$sent requests"
    until_true 10 counted
}
rule 'of 42 seconds of requests none is lost, though the files were emptied meanwhile' none_is_lost
echo "        $lossless"

for path in /metrics /metrics/ //metrics /status; do
    closed() { send --interface 127.0.0.20 --path-as-is "$BASE$path" && is_problem 404; }
    rule "https: $path is not there" closed
    redirected() { send --interface 127.0.0.20 --path-as-is "http://127.0.0.1:$http$path" && [[ $status == 308 ]]; }
    rule "http: $path neither" redirected
done
other_path() { send "${METRICS%/metrics}/$1" && [[ $status == 404 ]]; }
rule 'the port has nothing else' other_path multivac
rule 'nor files beside the metrics' other_path tls.key

reloads() { scrape && value multivac_edge_reloads_total; }
before=$(reloads)
touch "$directory/fenced"
rule 'a replica that is fenced is not ready, and that is a reload' until_true 15 is 'multivac_edge_replicas{state="ready"}' 0 \
    'multivac_edge_replicas{state="unready"}' 2 multivac_edge_reloads_total $((before + 1))
rm "$directory/fenced"
rule 'and ready again, by another' until_true 15 is 'multivac_edge_replicas{state="ready"}' 1 multivac_edge_reloads_total $((before + 2))
cp "$SECRETS/edge/tls.crt" "$directory/first.crt" && cp "$SECRETS/edge/tls.key" "$directory/first.key"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=new -addext subjectAltName=DNS:localhost \
    -keyout "$directory/new.key" -out "$directory/new.crt" 2>/dev/null
failures=$(scrape && value multivac_edge_reload_failures_total)
cp "$directory/new.crt" "$SECRETS/edge/tls.crt"
rule 'a certificate that does not fit counts as a failed reload' until_true 15 is multivac_edge_reload_failures_total $((failures + 1))
cp "$directory/new.key" "$SECRETS/edge/tls.key"
rule 'a changed certificate is a reload' until_true 15 is multivac_edge_reloads_total $((before + 3))
rule 'and its end is shown' until_true 75 certificate_ends "$directory/new.crt"
expiry_is_told() { grep -q 'WARNING: the certificate expires within 30 days: in 47 hours' "$directory/edge.err.log"; }
rule 'and warned of' until_true 15 expiry_is_told

touch "$directory/answers"
fresh() { send --interface 127.0.0.21 "$BASE/multivac" && [[ $status == 200 ]]; }
until_true 10 fresh || true
kill -KILL "$replica"
stale() { for _ in 1 2 3; do send --http1.1 --interface 127.0.0.21 "$BASE/multivac" && [[ $(header x-cache-status) == STALE ]] || return 1; done; }
rule 'the replica is killed: three stale answers' stale
rule 'are counted' until_true 10 is multivac_edge_stale_total 3
rule 'no replica is ready' until_true 15 is 'multivac_edge_replicas{state="ready"}' 0

# Every process that writes the metrics may die.
meter() { basename "$(dirname "$(readlink "$directory/edge/counting")")"; }
first_meter=$(meter)
scrape
total=$(value 'multivac_edge_requests_total{status="2xx"}')
kill -KILL "$first_meter"
rule 'the writer is killed: another goes on, with the same counts' until_true 10 eval \
    "[[ \$(meter) != $first_meter ]] && is 'multivac_edge_requests_total{status=\"2xx\"}' $total"
# Both processes of the script, the watcher and the writer.
writers() {
    local process
    for process in $(grep -lsz "^MULTIVAC_EDGE_DIR=$directory/edge\$" /proc/[0-9]*/environ); do
        process=${process%/environ}
        ! grep -qsz 30-edge-watch.sh "$process/cmdline" || echo "${process#/proc/}"
    done
}
kill -KILL $(writers) 2>/dev/null || true
not_fresh() { send "$METRICS" && is_problem 503; }
rule 'both are killed: no figures rather than old ones' not_fresh
stops() { kill -QUIT "$edge_pid" && until_true 15 eval "! kill -0 $edge_pid 2>/dev/null"; }
rule 'nginx stops' stops

off() {
    local https
    https=$(free_port)
    cp "$directory/first.crt" "$SECRETS/edge/tls.crt" && cp "$directory/first.key" "$SECRETS/edge/tls.key"
    start off edge "$directory/off" "$https" "$(free_port)" 127.0.0.1:9 MULTIVAC_EDGE_METRICS_LISTEN=off
    until_true 15 curl_edge --output /dev/null "https://localhost:$https/nothing" && [[ ! -e $directory/off/metrics && ! -e $directory/off/count.0 ]] && ! grep -q 'listen.*9113' "$directory/off/metrics.conf"
}
rule 'off: nothing listens, nothing is counted' off

# --- the log that Google Cloud reads ------------------------------------------------------------------------------

start again scripts/e2e-replica.py "$directory/told" "$directory/fenced" "$directory/answers"
until_true 10 test -s "$directory/again.log" || fail "the replica does not start again"
gcp_https=$(free_port) gcp_http=$(free_port)
start gcp env MULTIVAC_GCP_PROJECT=multivac-prod bash -c ". scripts/lib.sh; . scripts/e2e-lib.sh; SECRETS=$SECRETS; edge \"\$@\"" - "$directory/gcp" "$gcp_https" "$gcp_http" \
    "127.0.0.1:$(<"$directory/again.log")" MULTIVAC_EDGE_LOG_FORMAT=gcp
until_true 15 curl_edge --fail --output /dev/null "https://localhost:$gcp_https/healthz" || fail "the edge with the log for Google Cloud does not answer"
hostile() { status=$(scripts/e2e-log.py send "$gcp_https" "$gcp_http" "$PASSWORD" 2>&1); }
rule 'hostile requests are sent' hostile
reads() { status=$(scripts/e2e-log.py gcp "$directory/gcp.log" projects/multivac-prod/traces/ 2>&1); }
rule 'every line is what Google Cloud Logging reads' until_true 5 reads
watcher_reads() { status=$(scripts/e2e-log.py watcher "$directory/gcp.err.log" 2>&1); }
rule "and so is every line of the watcher" watcher_reads
json_https=$(free_port) json_http=$(free_port)
start json edge "$directory/json" "$json_https" "$json_http" "127.0.0.1:$(<"$directory/again.log")"
until_true 15 curl_edge --fail --output /dev/null "https://localhost:$json_https/healthz" || fail "the edge with its own log does not answer"
hostile_to_json() { status=$(scripts/e2e-log.py send "$json_https" "$json_http" "$PASSWORD" 2>&1); }
rule 'the same requests again' hostile_to_json
reads_json() { status=$(scripts/e2e-log.py json "$directory/json.log" 2>&1); }
rule "every line of the edge's own format is JSON, with trace and span" until_true 5 reads_json
metadata() {
    local https
    https=$(free_port)
    start metadata python3 -c '
import http.server
class Metadata(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.path == "/computeMetadata/v1/project/project-id" and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if right else 403)
        self.end_headers()
        self.wfile.write(b"multivac-metadata")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
print(server.server_address[1], flush=True)
server.serve_forever()'
    until_true 10 test -s "$directory/metadata.log" || return 1
    start machine edge "$directory/machine" "$https" "$(free_port)" 127.0.0.1:9 MULTIVAC_EDGE_LOG_FORMAT=gcp "GCE_METADATA_HOST=127.0.0.1:$(<"$directory/metadata.log")"
    until_true 15 curl_edge --output /dev/null "https://localhost:$https/nothing" &&
        until_true 5 grep -q '"logging.googleapis.com/trace":"projects/multivac-metadata/traces/' "$directory/machine.log"
}
rule "without a project, the machine's own" metadata
bare() {
    local https
    https=$(free_port)
    start bare edge "$directory/bare" "$https" "$(free_port)" 127.0.0.1:9 MULTIVAC_EDGE_LOG_FORMAT=gcp GCE_METADATA_HOST=127.0.0.1:9
    until_true 15 curl_edge --output /dev/null "https://localhost:$https/nothing" &&
        until_true 5 grep -qE '"logging.googleapis.com/trace":"[0-9a-f]{32}"' "$directory/bare.log"
}
rule 'elsewhere, the bare trace id' bare

count_rules observe
