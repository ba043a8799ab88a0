#!/usr/bin/env bash
# Tries event streams through the edge, over both versions of HTTP: a real nginx with the configuration of deploy/nginx in front of
# two multivac-api, each embedded, with data of its own. e2e.sh runs it.
#
#     scripts/e2e-events.sh
#
# What it needs   nginx (or MULTIVAC_TEST_NGINX), curl, openssl, getent, python3; the program, or cargo to build it.
# What it returns 0 if every rule holds, else 1; a line for each rule. Some seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh
. scripts/e2e-lib.sh
if [[ -z ${MULTIVAC_BUILT_API:-} ]]; then build --tests; fi
temporary_directory events

readonly SECRETS=$directory/secrets
MULTIVAC_SECRETS=$SECRETS MULTIVAC_ENV_FILE=$directory/env scripts/setup.py 2>/dev/null
PASSWORD=$(MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user susan 2>/dev/null)
readonly PASSWORD

https=$(free_port) one=$(free_port) two=$(free_port)
readonly BASE=https://localhost:$https
unset REDIS_URL MONGO_URL

# start_api PORT: one that goes on serving for a while after it was told to stop, and opens no stream then.
start_api() {
    start "api-$1" "$MULTIVAC_BUILT_API" --listen "127.0.0.1:$1" --data-dir "$directory/data-$1" --drain-delay 10s
    until_true 30 curl --silent --noproxy '*' --fail --output /dev/null "http://127.0.0.1:$1/readyz" || fail "an api does not become ready"
}
start_api "$one"
one_pid=$pid
start edge edge "$directory/edge" "$https" "$(free_port)" "127.0.0.1:$one,127.0.0.1:$two"
until_true 15 get_is /healthz 200 || fail "the edge does not answer"

listen() { # VERSION
    curl_edge "--http$1" --no-buffer --dump-header "$directory/head-$1" --output "$directory/events-$1" \
        --get "$BASE/multivac/events" --data-urlencode 'question=Who lit the lamps of Terminus?'
}
declare -A listening
for version in 1.1 2; do
    listen $version &
    listening[$version]=$!
    running+=($!)
done
told() { # VERSION TEXT
    status=$(head -c 300 "$directory/events-$1" 2>/dev/null) && grep -q "^data: .*$2" "$directory/events-$1"
}
kept_by_nobody() {
    status=$(<"$directory/head-$1")
    [[ $status =~ [Cc]ontent-[Tt]ype:\ text/event-stream && $status =~ [Cc]ache-[Cc]ontrol:\ no-store ]]
}
for version in 1.1 2; do
    rule "HTTP/$version: the present answer of a watched question comes at once" until_true 5 told $version '"status":"insufficient_data"'
    rule "HTTP/$version: and the ledger behind it" until_true 5 told $version '"accepted":'
    rule "HTTP/$version: as events that nobody keeps" kept_by_nobody $version
done
feed 'The lamps of Terminus were lit by Salvor Hardin.'
for version in 1.1 2; do
    rule "HTTP/$version: a change is passed on at once" until_true 5 told $version '"answer":"The lamps of Terminus were lit by Salvor Hardin."'
done
head_alone() { send --head "$BASE/multivac/events" && [[ $status == 200 && $(header content-type) == text/event-stream ]]; }
rule 'HEAD has an end' head_alone
no_question() { send "$BASE/multivac/events?question=" && is_problem 400; }
rule 'a question that cannot be watched is a problem of 400' no_question

start_api "$two"
knows_both() { # Which it does once it has sent requests to both.
    for _ in {1..4}; do get_is /multivac/stats 200 || return 1; done
    grep -q "\"replica\":\"127.0.0.1:$two\"" "$directory/edge.log"
}
until_true 15 knows_both || fail "the edge does not find the second api"
kill -TERM "$one_pid"
ended() { ! kill -0 "${listening[$1]}" 2>/dev/null; }
for version in 1.1 2; do rule "HTTP/$version: a replica that is being stopped ends its streams" until_true 5 ended $version; done
opens() {
    local replied
    for _ in {1..6}; do
        # It ends by the time limit alone.
        replied=$(curl_edge --no-buffer --max-time 0.5 --output /dev/null --write-out '%{http_code}' "$BASE/multivac/events") || true
        status=$replied
        [[ $replied == 200 ]] || return 1
    done
}
rule 'and who comes back finds another' opens

# An edge with room for two streams of all clients, who have an address each.
few=$(free_port)
start few edge "$directory/few" "$few" "$(free_port)" "127.0.0.1:$two" MULTIVAC_EDGE_STREAMS=2
until_true 15 curl_edge --fail --output /dev/null "https://localhost:$few/healthz" || fail "the edge with few streams does not answer"
for client in 1 2; do
    curl_edge --no-buffer --interface "127.0.0.2$client" --output "$directory/few-$client" "https://localhost:$few/multivac/events" &
    running+=($!)
    until_true 5 test -s "$directory/few-$client" || fail "a stream does not begin"
done
a_third() { send --interface 127.0.0.23 "https://localhost:$few/multivac/events" && is_problem 429 && [[ -n $(header retry-after) ]]; }
rule 'more streams than the edge has are refused' a_third
others() { send --interface 127.0.0.23 "https://localhost:$few/multivac" && [[ $status == 200 ]]; }
rule 'and who asks is answered' others

count_rules events
