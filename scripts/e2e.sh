#!/usr/bin/env bash
# Tries every rule of the edge with curl: a real nginx with the configuration of deploy/nginx in front of two
# multivac-api and a multivac-worker on Redis and MongoDB; e2e-clients.py is the clients that curl cannot be. No Docker.
#
#     scripts/e2e.sh
#
# What it does    Builds the programs, starts all of it on free ports of 127.0.0.1 in a temporary directory, with secrets
#                 made by setup.py, tries each rule, and ends what it started.
# What it needs   what test-backends.sh needs, curl, openssl, getent.
# What it returns 0 if every rule holds, else 1; a line for each rule, and the last line counts them. About two minutes once built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for tool in curl openssl getent python3; do
    command -v $tool >/dev/null || { printf 'e2e: %s is missing\n' $tool >&2; exit 2; }
done
. scripts/lib.sh
. scripts/e2e-lib.sh
# With the tests, since without the features that they need cargo would build everything twice.
if [[ -z ${MULTIVAC_BUILT_WORKER:-} ]]; then build --tests; fi
with_servers e2e

readonly TEXT='The entropy of the universe can be reversed by gathering all of the starlight.'
readonly INSUFFICIENT='INSUFFICIENT DATA FOR MEANINGFUL ANSWER.'

temporary_directory e2e

# --- the system -----------------------------------------------------------------------------------------------

readonly SECRETS=$directory/secrets
MULTIVAC_SECRETS=$SECRETS MULTIVAC_ENV_FILE=$directory/env scripts/setup.py 2>/dev/null
PASSWORD=$(MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user susan 2>/dev/null)
readonly PASSWORD

api_port=$(free_port) other_port=$(free_port) https=$(free_port) http=$(free_port)
readonly BASE=https://localhost:$https

export MULTIVAC_NAMESPACE=multivac_e2e
export REDIS_URL=$MULTIVAC_TEST_REDIS_URL MONGO_URL=$MULTIVAC_TEST_MONGO_URL

start_api() { start "api-$1" "$MULTIVAC_BUILT_API" --listen "127.0.0.1:$1"; }

# --- the rules ----------------------------------------------------------------------------------------------------

start_api "$api_port"
first_api=$pid
start_api "$other_port"
second_api=$pid
start worker "$MULTIVAC_BUILT_WORKER" --health-listen "127.0.0.1:$(free_port)"
for port in "$api_port" "$other_port"; do
    until_true 30 curl --silent --noproxy '*' --fail --output /dev/null "http://127.0.0.1:$port/readyz" || fail "an api does not become ready"
done

# nginx does not start without what makes it safe.
refuses() { # WHAT SETTING
    local refused=0
    (edge "$directory/refused" 1 2 127.0.0.1:9 "$1") >"$directory/refused.log" 2>&1 || refused=$?
    [[ $refused != 0 ]] && grep -q 'not starting without it' "$directory/refused.log"
}
: >"$directory/empty"
echo '# nobody' >"$directory/nobody"
rule 'no htpasswd, no start' refuses "MULTIVAC_EDGE_HTPASSWD=$directory/none"
rule 'an empty htpasswd, no start' refuses "MULTIVAC_EDGE_HTPASSWD=$directory/empty"
rule 'an htpasswd without users, no start' refuses "MULTIVAC_EDGE_HTPASSWD=$directory/nobody"
rule 'no certificate, no start' refuses "MULTIVAC_EDGE_CERTIFICATE=$directory/none"
rule 'no key, no start' refuses "MULTIVAC_EDGE_KEY=$directory/none"

start edge edge "$directory/edge" "$https" "$http" "127.0.0.1:$api_port,127.0.0.1:$other_port"
edge_pid=$pid
until_true 15 get_is /healthz 200 || fail "the edge does not answer"
# Another, which serves stale answers.
keeping_https=$(free_port)
start keeping edge "$directory/keeping" "$keeping_https" "$(free_port)" "127.0.0.1:$api_port,127.0.0.1:$other_port" MULTIVAC_EDGE_STALE=on
readonly KEEPING=https://localhost:$keeping_https
until_true 15 curl_edge --fail --output /dev/null "$KEEPING/healthz" || fail "the edge with stale answers does not answer"

# TLS.
redirects() { send "http://127.0.0.1:$http/multivac?x=1" && [[ $status == 308 && $(header location) == "https://127.0.0.1:$https/multivac?x=1" ]]; }
rule 'http redirects to https' redirects
plain_health() { send "http://127.0.0.1:$http/healthz" && body_is 200 ok; }
rule "/healthz over http is nginx's own" plain_health
speaks() { [[ $(curl_edge --output /dev/null --write-out '%{http_version}' "$@" "$BASE/zzz") == 2 ]]; }
rule 'TLS 1.3 with HTTP/2' speaks --tlsv1.3
rule 'TLS 1.2 with HTTP/2' speaks --tlsv1.2 --tls-max 1.2
old_tls() { ! curl_edge --output /dev/null --tlsv1.0 --tls-max 1.1 --ciphers 'DEFAULT@SECLEVEL=0' "$BASE/zzz"; }
rule 'nothing older' old_tls
weak_cipher() { ! curl_edge --output /dev/null --tls-max 1.2 --ciphers AES128-SHA256 "$BASE/zzz"; }
rule 'no cipher without forward secrecy' weak_cipher
other_group() { ! openssl s_client -connect "127.0.0.1:$https" -groups "$1" </dev/null >/dev/null 2>&1; }
rule 'no finite-field group' other_group ffdhe2048:ffdhe3072:ffdhe8192
group() { openssl s_client -connect "127.0.0.1:$https" -groups "$1" </dev/null 2>&1 | grep -q '^New, TLSv1.3'; }
for group in X25519 prime256v1 secp384r1; do rule "the group $group" group $group; done
# Only where OpenSSL has it, on both sides.
! grep -q MLKEM "$directory/edge/nginx.conf" || rule 'the post-quantum hybrid' group X25519MLKEM768
guarded() {
    [[ $(header strict-transport-security) == max-age=31536000 && $(header x-content-type-options) == nosniff &&
        $(header x-frame-options) == DENY && $(header referrer-policy) == no-referrer && -n $(header x-request-id) ]]
}
headers_of() { send "$BASE$1" && guarded && [[ $(header content-security-policy) == "default-src 'none'; "* ]]; }
rule 'security headers on a reply' headers_of /zzz
rule 'security headers on an error of the edge' headers_of /nothing
console() { send -H 'Accept: text/html' "$BASE/" && guarded && [[ $status == 200 && $(header content-security-policy) == *"script-src 'sha256-"* && $(header content-security-policy | wc -l) == 1 ]]; }
rule 'the console has its own content security policy' console

# Open and closed.
text_of() { send "$BASE$1" && body_is 200 "$2"; }
rule 'GET / is open' text_of / 'Welcome to MultiVAC!'
rule 'GET /zzz is open' text_of /zzz 'LET THERE BE LIGHT!'
rule 'GET /zzz/ is open' text_of /zzz/ 'LET THERE BE LIGHT!'
rule 'GET /healthz is open' text_of /healthz ok
rule 'GET /multivac is open' text_of /multivac "$INSUFFICIENT"
rule 'GET /multivac/stats is open' get_is /multivac/stats 200
rule 'GET /openapi.json is open' get_is /openapi.json 200
head_is_open() { send --head "$BASE/zzz" && [[ $status == 200 ]]; }
rule 'HEAD is open' head_is_open
closed() { send --path-as-is "$BASE$1" && is_problem 404; }
for path in /metrics /readyz /metrics/ //metrics /%6detrics /multivac/../metrics /multivac/%2e%2e/readyz '/readyz?x' /nothing; do
    rule "GET $path is not there" closed "$path"
done

# Users, and what is for them alone.
. scripts/e2e-users.sh

# Traces.
readonly TRACE=0af7651916cd43dd8448eb211c80319c
traced() { as_susan "$BASE/multivac/data" -d other=x -H "traceparent: $1" && is_problem 400 && [[ $(json_of trace_id) == "$2" ]]; }
rule 'the trace of the client reaches the api' traced "00-$TRACE-b7ad6b7169203331-01" $TRACE
own_trace() { send "$BASE/nothing" -H "traceparent: 00-$TRACE-b7ad6b7169203331-01" && is_problem 404 && [[ $(json_of trace_id) == "$TRACE" ]]; }
rule 'an error of the edge has the trace of the client' own_trace
new_trace() { as_susan "$BASE/multivac/data" -d other=x -H 'traceparent: nonsense' && is_problem 400 && [[ $(json_of trace_id) == "$(header x-request-id)" ]]; }
rule 'without a trace the request id is the trace id' new_trace

rules_of scripts/e2e-observe.sh
rules_of scripts/e2e-events.sh

# What no well-meaning client sends.
rules_of scripts/e2e-clients.py attacks "$https" "$http"
# A password of 192 random bits needs no hash that is slow to check, and such a hash tells which names exist.
printf 'calvin:{SSHA}%s\n' "$(python3 -c 'import base64, hashlib, os; salt = os.urandom(8); print(base64.b64encode(hashlib.sha1(os.urandom(24) + salt).digest() + salt).decode())')" >>"$SECRETS/edge/htpasswd"
same_time() { status=$(scripts/e2e-clients.py names "$https" calvin 2>&1); }
rule 'a name that exists is not told by the time of its 401' same_time
scripts/e2e-clients.py slow "$https" >"$directory/slow-refused" 2>&1 &
slow_refused=$!
running+=($slow_refused)

# Answers: kept, revalidated each time, retracted at once.
cached() { send -H "Accept: $1" "$BASE/multivac" && [[ $status == 200 && $(header x-cache-status) == "$2" && -z $(header warning) ]]; }
feed "$TEXT"
datum=$(json_of id)
answers() { send "$BASE/multivac" && body_is 200 "$TEXT"; }
rule 'an answer is seen as soon as it is learned' until_true 20 answers
answers_of_both() { for _ in {1..6}; do answers || return 1; done; }
until_true 10 answers_of_both || true
cached text/plain any || true
rule 'a kept answer is revalidated' cached text/plain REVALIDATED
cached application/json any || true
rule 'a kept JSON answer is revalidated' cached application/json REVALIDATED
is_json() { send -H 'Accept: application/json' "$BASE/multivac" && [[ $(json_of answer) == "$TEXT" ]] && send "$BASE/multivac" && body_is 200 "$TEXT"; }
rule 'text and JSON are kept apart' is_json
not_modified() { send -H "If-None-Match: $(header etag)" "$BASE/multivac" && [[ $status == 304 ]]; }
rule 'the client can revalidate as well' not_modified
another() { send -H 'If-Match: "another"' "$BASE/multivac" && is_problem 412; }
rule 'If-Match with another ETag fails' another
another_of_new() {
    local i
    for i in {1..5}; do send --get "$BASE/multivac" --data-urlencode "question=Is $i a number?" -H 'If-Match: "another"' && is_problem 412 || return 1; done
}
rule 'also where no answer was kept' another_of_new
no_text() { send --path-as-is "$BASE/$(printf '\xff')%ff" && is_problem 404; }
rule 'a path that is not valid UTF-8 is 404' no_text
question() { send --get "$BASE/multivac" --data-urlencode "question=What can be reversed by gathering the starlight of Trantor?" && [[ $status == 200 ]]; }
rule 'any question gets a 200' question
long_question() { send --get "$BASE/multivac" --data-urlencode "question=$(printf '\xf0\x9f\x8c\x8c%.0s' {1..1000})" && [[ $status == 200 ]]; }
rule 'a question of 1,000 characters, percent-encoded' long_question
taken_back() {
    as_susan -X DELETE "$BASE/multivac/data/$datum"
    [[ $status == 204 ]] || return 1
    for _ in 1 2 3 4; do send "$BASE/multivac" && body_is 200 "$INSUFFICIENT" || return 1; done
}
rule 'a retraction shows at once' taken_back

# An edge with low limits, in front of a replica that answers otherwise.
start events scripts/e2e-replica.py "$directory/told" "$directory/fenced"
until_true 10 test -s "$directory/events.log" || fail "the event stream does not start"
events_https=$(free_port) events_http=$(free_port)
start events-edge edge "$directory/events-edge" "$events_https" "$events_http" "127.0.0.1:$(<"$directory/events.log")" MULTIVAC_EDGE_RATE=1 MULTIVAC_EDGE_BURST=5 MULTIVAC_EDGE_HEADER_TIMEOUT=3s MULTIVAC_EDGE_OPEN_CONNECTIONS=20
until_true 15 curl_edge --interface 127.0.0.9 --fail --output /dev/null "https://localhost:$events_https/healthz" || fail "the second edge does not answer"

# Limits.
head -c 9000000 /dev/zero | tr '\0' '\n' >"$directory/huge"
huge() { as_susan "$BASE/multivac/data" -H 'Content-Type: text/plain' -H 'Expect:' "$@" && is_problem 413; }
rule 'a huge body' huge --data-binary @"$directory/huge"
huge_of_nobody() { send --user 'password-for-a-name:' "$BASE/multivac/data" -H 'Expect:' --data-binary @"$directory/huge" && is_problem 413; }
rule 'a huge body without a password' huge_of_nobody
rule 'a huge body without a length' huge --http1.1 -H 'Transfer-Encoding: chunked' -X POST --upload-file "$directory/huge"
large_datum() { head -c 1500000 /dev/zero | tr '\0' x >"$directory/large" && as_susan "$BASE/multivac/data" -H 'Content-Type: text/plain' --data-binary @"$directory/large" && is_problem 413; }
rule 'a datum over the limit is refused by the api' large_datum
long_bulk() { as_susan "$BASE/multivac/data/bulk" -H 'Content-Type: application/x-ndjson' --data-binary @"$directory/huge" && [[ $status == 200 && $(json_of accepted) == 0 ]]; }
rule 'a bulk body may be longer than a datum' long_bulk
slow_header() {
    local started=$SECONDS
    { printf 'GET /zzz HTTP/1.1\r\nHost: x\r\n'; sleep 30; } | timeout 30 openssl s_client -quiet -connect "127.0.0.1:$events_https" >/dev/null 2>&1 &
    local client=$!
    until_true 25 eval "! kill -0 $client 2>/dev/null" && [[ $((SECONDS - started)) -lt 20 ]]
}
rule 'a header that comes too slowly is cut off' slow_header
huge_header() { send "$BASE/zzz" --http1.1 -H "X-Long: $(head -c 20000 /dev/zero | tr '\0' x)" && is_problem 431; }
rule 'a huge header' huge_header
burst() {
    curl_edge --interface 127.0.0.2 --output /dev/null --write-out '%{http_code}\n' "https://localhost:$events_https/zzz?[1-40]" >"$directory/burst" 2>/dev/null || true
    status=$(sort "$directory/burst" | uniq -c | xargs)
    [[ $(grep -c 429 "$directory/burst") -ge 20 && $(grep -c 200 "$directory/burst") -ge 6 ]]
}
rule 'a burst from one address is cut off' burst
burst_is_told() {
    for _ in {1..40}; do
        send --interface 127.0.0.2 "https://localhost:$events_https/zzz"
        [[ $status != 429 ]] || { is_problem 429 && [[ $(header retry-after) == 1 ]]; return; }
    done
    return 1
}
rule '429 is a problem document with Retry-After' burst_is_told
limited() { # INTERFACE URL
    for _ in {1..40}; do
        send --interface "$1" "$2"
        [[ $status != 429 ]] || { is_problem 429; return; }
    done
    return 1
}
rule 'paths that do not exist count against the limit' limited 127.0.0.6 "https://localhost:$events_https/nothing"
rule 'http counts against the limit' limited 127.0.0.7 "http://127.0.0.1:$events_http/zzz"
others() { send --interface 127.0.0.8 "https://localhost:$events_https/zzz" && [[ $status == 200 ]]; }
rule 'other addresses are served meanwhile' others
# nginx has to have the module `stream`, as test-backends.sh sees to where it can.
if grep -q /stream.conf "$directory/events-edge/nginx.conf"; then
    held() { status=$(scripts/e2e-clients.py hold "$events_https" 127.0.0.10 40); }
    rule 'an address has so many connections and no more, though it says nothing' held
else
    echo 'e2e: SKIPPED: the limit of open connections: this nginx has no module `stream`'
fi
# Slow bodies from an address of their own, as many as it may have at once. Their replies are checked further down.
slow_body() {
    { printf 'data=slow'; sleep 38; } | curl_edge --max-time 90 --interface 127.0.0.3 --config <(printf 'user = "susan:%s"' "$PASSWORD") \
        --http1.1 --header 'Content-Type: application/x-www-form-urlencoded' --header 'Expect:' --upload-file - -X POST \
        --output "$directory/slow-$1" --dump-header "$directory/slow-head-$1" --write-out '%{http_code}' \
        --verbose "$BASE/multivac/data" >"$directory/slow-status-$1" 2>"$directory/slow-said-$1" || true
}
slow=()
for i in {1..10}; do
    slow_body "$i" &
    slow+=($!)
    running+=($!)
done
slow_started=$SECONDS
# The eleventh must not be sent before the ten are under way, or it would be one of the ten.
all_are_sent() { [[ $(grep -l '^> POST' "$directory"/slow-said-* | wc -l) == 10 ]]; }
until_true 20 all_are_sent || true
too_many() { send --interface 127.0.0.3 "$BASE/zzz" && is_problem 429; }
rule 'the eleventh request at once from one address is refused' until_true 10 too_many

# Replicas.
connections_to_apis() { awk -v a="$(printf '%04X' "$api_port")" -v b="$(printf '%04X' "$other_port")" 'split($3, to, ":") && (to[2] == a || to[2] == b)' /proc/net/tcp | wc -l; }
keeps_alive() {
    local before
    before=$(connections_to_apis)
    for _ in {1..40}; do get_is "/multivac/stats?$RANDOM" 200 || return 1; done
    status="$before connections, then $(connections_to_apis)"
    [[ $(connections_to_apis) -lt $((before + 20)) ]]
}
rule 'connections to the api are kept open' keeps_alive

# An event stream outlives a reload.
stream() { curl_edge --no-buffer --output "$directory/stream" "https://localhost:$events_https/multivac/events"; }
stream &
streaming=$!
running+=($!)
has_event() { grep -q "^data: $1" "$directory/stream" 2>/dev/null; }
rule 'an event is passed on at once' until_true 10 has_event 1

# The certificate is changed while the stream, a body and requests on kept connections are under way.
scripts/e2e-clients.py keep-alive "$https" "$directory/changed-enough" >"$directory/keep-alive" 2>&1 &
keeping_alive=$!
running+=($keeping_alive)
serial() { openssl s_client -connect "127.0.0.1:$1" </dev/null 2>/dev/null | openssl x509 -noout -serial; }
halves() { printf 'data=Half a text, '; until_true 20 test -e "$directory/told"; printf 'and the other half.'; }
(
    halves | curl_edge --config <(printf 'user = "susan:%s"' "$PASSWORD") -X POST --upload-file - --header 'Expect:' \
        --header 'Content-Type: application/x-www-form-urlencoded' --output "$directory/halves-reply" \
        --write-out '%{http_code}' "$BASE/multivac/data" >"$directory/halves-status"
) &
sending=$!
running+=($!)
cp "$SECRETS/edge/tls.crt" "$directory/first.crt" && cp "$SECRETS/edge/tls.key" "$directory/first.key"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=new -addext subjectAltName=DNS:localhost \
    -keyout "$directory/new.key" -out "$directory/new.crt" 2>/dev/null
old=$(serial "$https")
cp "$directory/new.crt" "$SECRETS/edge/tls.crt"
half_changed() { sleep 2.5 && [[ $(serial "$https") == "$old" ]]; }
rule 'a certificate that does not fit the key is ignored' half_changed
cp "$directory/new.key" "$SECRETS/edge/tls.key"
new=$(openssl x509 -noout -serial -in "$directory/new.crt")
changed() { [[ $(serial "$https") == "$new" && $(serial "$events_https") == "$new" ]]; }
rule 'a changed certificate is used' until_true 15 changed
# It is valid for two days.
warned() { grep -q 'WARNING: the certificate expires within 30 days' "$directory/edge.err.log"; }
rule 'a certificate that expires soon is warned of' until_true 15 warned
: >"$directory/told"
rule 'an event stream goes on across the reload' until_true 10 has_event 2
changes_again() {
    local which
    cp "$SECRETS/edge/tls.crt" "$directory/second.crt" && cp "$SECRETS/edge/tls.key" "$directory/second.key"
    for which in first second first; do
        cp "$directory/$which.crt" "$SECRETS/edge/tls.crt" && cp "$directory/$which.key" "$SECRETS/edge/tls.key"
        new=$(openssl x509 -noout -serial -in "$directory/$which.crt")
        until_true 15 changed || return 1
    done
}
rule 'and again and again' changes_again
sleep 2 # Until the last reload is over.
touch "$directory/changed-enough"
kept_alive() {
    local lost=0
    wait $keeping_alive || lost=1
    status=$(<"$directory/keep-alive")
    return $lost
}
rule 'no request on a kept connection is lost over four reloads' kept_alive
cat "$directory/keep-alive"
wait $streaming $sending || true
went_on() { status=$(<"$directory/halves-status") && [[ $status == 200 ]]; }
rule 'a body under way goes on across the reload' went_on

# One replica dies, then both; then they come back.
wait "${slow[@]}" 2>/dev/null || true
slow_is_told() {
    local i
    for i in {1..10}; do
        status=$(<"$directory/slow-status-$i")
        cp "$directory/slow-$i" "$directory/body" && cp "$directory/slow-head-$i" "$directory/head"
        is_problem 408 || return 1
    done
}
rule "slow bodies get 408 (they have had $((SECONDS - slow_started)) s)" slow_is_told
cut_off() { wait $slow_refused || { status=$(<"$directory/slow-refused") && return 1; }; }
rule 'a slow body that the edge refuses is cut off' cut_off

# A replica that may not answer, alone and beside one that may.
events_port=$(<"$directory/events.log")
refused_alone() { send --http1.1 --interface 127.0.0.11 "https://localhost:$events_https/multivac" && is_problem 503 && [[ $(header retry-after) == 7 && $(json_of detail) == 'not now' ]]; }
rule "a single replica's 503 to a question reaches the client, with its Retry-After" refused_alone
fence_https=$(free_port)
start fence edge "$directory/fence" "$fence_https" "$(free_port)" "127.0.0.1:$events_port,127.0.0.1:$api_port"
until_true 15 curl_edge --fail --output /dev/null "https://localhost:$fence_https/healthz" || fail "the edge in front of both does not answer"
seen_by_replica() { send "http://127.0.0.1:$events_port/zzz" && json_of "$1" 2>/dev/null || echo 0; }
asks_another() {
    local before
    before=$(seen_by_replica questions)
    for _ in {1..10}; do send "https://localhost:$fence_https/multivac" && [[ $status == 200 ]] || return 1; done
    [[ $(seen_by_replica questions) -gt $before ]]
}
rule 'the 503 of one replica to a question is passed to another' asks_another
feeds_once() {
    local refused=0 before
    before=$(seen_by_replica data)
    for _ in {1..10}; do
        as_susan "https://localhost:$fence_https/multivac/data" -d 'data=Once.'
        [[ $status != 503 ]] || refused=$((refused + 1))
    done
    status="$refused of 10 refused"
    [[ $refused -gt 0 && $refused -lt 10 && $(seen_by_replica data) == $((before + refused)) ]]
}
rule 'the 503 of one replica to a datum is not' feeds_once
touch "$directory/fenced"
knows_fenced() { grep -q 'data go to' "$directory/events-edge.err.log"; }
rule 'the edge notices that a replica is fenced' until_true 20 knows_fenced
rule "a fenced replica's 503 reaches the client where no other is left" refused_alone
takes_data() {
    local before
    before=$(seen_by_replica data)
    send --config <(printf 'user = "susan:%s"' "$PASSWORD") --http1.1 --interface 127.0.0.12 "https://localhost:$events_https/multivac/data" -d 'data=x'
    [[ $status == 503 && $(header retry-after) == 7 && $(seen_by_replica data) == $((before + 1)) ]]
}
rule 'and data go to it all the same' takes_data
feed "$TEXT"
until_true 20 answers_of_both || true
send "$KEEPING/multivac"
kill -KILL "$first_api"
# By HTTP/1.1: nginx is about to reload, and closes an HTTP/2 connection that is opened in that instant before its request is
# handled. Browsers repeat the request by themselves, curl does not.
reads_on() { for _ in {1..30}; do send --http1.1 "$BASE/multivac/stats?$RANDOM" && [[ $status == 200 ]] || return 1; done; }
rule 'a replica is killed: reading goes on' reads_on
feeds_on() { for _ in {1..10}; do as_susan --http1.1 "$BASE/multivac/data" -d 'data=It goes on.' && [[ $status == 200 ]] || return 1; done; }
rule 'a replica is killed: feeding goes on' feeds_on
kill -KILL "$second_api"
no_answer() { send --http1.1 "$BASE/multivac" && is_problem 503 && [[ -n $(header retry-after) ]]; }
rule 'both replicas are killed: no answer' no_answer
stale() { send --http1.1 "$@" "$KEEPING/multivac" && body_is 200 "$TEXT" && [[ $(header x-cache-status) == STALE && $(header warning) == 110* ]] && guarded; }
rule 'where the operator chose it, the last answer, marked as stale' stale
rule 'the stale answer is served for another Accept of the same meaning' stale -H 'Accept: text/plain, text/*;q=0.5'
never_asked() { send --http1.1 --get "$KEEPING/multivac" --data-urlencode "question=Who has never asked?" && is_problem 503 && [[ -n $(header retry-after) ]]; }
rule 'a question that was never asked gets a 503' never_asked
not_fed() { as_susan --http1.1 "$BASE/multivac/data" -d 'data=Is anybody there?' && is_problem 502 && [[ -n $(header retry-after) ]]; }
rule 'feeding gets a 502' not_fed
# A replica that has not filled its index would answer that there are no data.
none_is_ready() { grep -q 'replicas: none' "$directory/edge.err.log" && grep -q 'replicas: none' "$directory/keeping.err.log"; }
rule 'the edge notices that no replica is ready' until_true 20 none_is_ready
MONGO_URL="mongodb://127.0.0.1:9/?replicaSet=rs0" start_api "$other_port"
unready_api=$pid
says_so() { send "http://127.0.0.1:$other_port/readyz" && [[ $status == 503 && $(<"$directory/body") == *'the index is not filled yet'* ]]; }
rule 'a replica with an unfilled index is not ready' until_true 20 says_so
marked() { send "http://127.0.0.1:$other_port/multivac" && body_is 200 "$INSUFFICIENT" && [[ $(header warning) == 199* ]]; }
rule 'its answers have a Warning' marked
stays_stale() { for _ in {1..20}; do no_answer && stale && sleep 0.2 || return 1; done; }
rule 'the edge goes on refusing, or serving the stale answer' stays_stale
kill -KILL "$unready_api"
start_api "$other_port"
fresh() { send "$1/multivac" && body_is 200 "$TEXT" && [[ $(header x-cache-status) == REVALIDATED ]]; }
rule 'a replica is back: fresh answers' until_true 30 fresh "$BASE"
rule 'and in place of stale ones' until_true 30 fresh "$KEEPING"
rule 'a replica is back: feeding' until_true 10 feeds 'Here it is.'

# The log.
log_is_json() {
    python3 - "$directory/edge.log" <<'LOG'
import json, re, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
seen = {line["status"] for line in lines}
assert {200, 204, 304, 400, 401, 404, 405, 408, 413, 414, 429, 431, 501, 502, 503, 505} <= seen, seen
for line in lines:
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"]) and re.fullmatch("[0-9a-f]{32}", line["trace_id"]), line
    assert "?" not in line["path"], line
    assert line["client"].startswith("127."), line
assert any(line["trace_id"] == "0af7651916cd43dd8448eb211c80319c" and line["status"] == 400 for line in lines)
assert {line["user"] for line in lines} == {"", "susan", "lenny"}, {line["user"] for line in lines}
LOG
}
rule 'every line of the log is JSON, with request id and trace id' log_is_json
no_secret() {
    local word
    for word in "$PASSWORD" "$(printf 'susan:%s' "$PASSWORD" | base64 -w0)" Authorization Basic starlight Trantor robopsychologist "$(sed -n 's/^lenny://p' "$SECRETS/edge/htpasswd")"; do
        [[ -z $word ]] || ! grep -qF -- "$word" "$directory/edge.log" "$directory/edge.err.log" || { status="found: $word"; return 1; }
    done
}
rule 'no line of the log holds a password, a text or a question' no_secret
stops() { kill -QUIT "$edge_pid" && until_true 15 eval "! kill -0 $edge_pid 2>/dev/null"; }
rule 'nginx stops on SIGQUIT' stops

count_rules e2e
