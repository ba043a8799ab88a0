#!/usr/bin/env bash
# Tries the commands for people through the edge: a real nginx with the configuration of deploy/nginx, and low limits, in front of
# an embedded multivac-api. e2e.sh runs it.
#
#     scripts/e2e-commands.sh [FILES]
#
# What it does    Feeds so many files (2,000 unless it is said) with a password, kills that half way and feeds again; asks; exports
#                 and imports; tries what a wrong password, a certificate of nobody, and too many requests come to.
# What it needs   nginx (or MULTIVAC_TEST_NGINX), curl, openssl, getent, python3; the program (MULTIVAC_BUILT_API, or it is built).
# What it returns 0 if every rule holds, else 1; a line for each rule. Half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh
. scripts/e2e-lib.sh
if [[ -z ${MULTIVAC_BUILT_API:-} ]]; then build --tests; fi
temporary_directory commands

readonly FILES=${1:-2000}
readonly SECRETS=$directory/secrets
MULTIVAC_SECRETS=$SECRETS MULTIVAC_ENV_FILE=$directory/env scripts/setup.py 2>/dev/null
PASSWORD=$(MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user susan 2>/dev/null)
readonly PASSWORD
(umask 077 && printf '%s\n' "$PASSWORD" >"$directory/password" && echo wrong >"$directory/wrong" &&
    printf 'machine other login x password y\nmachine localhost login susan password %s\n' "$PASSWORD" >"$directory/netrc")

api_port=$(free_port) https=$(free_port) http=$(free_port)
readonly BASE=https://localhost:$https
unset REDIS_URL MONGO_URL
start api env MULTIVAC_ALLOW_BACKUP_OVER_HTTP=true "$MULTIVAC_BUILT_API" --listen "127.0.0.1:$api_port" --data-dir "$directory/data" \
    --allowed-hosts localhost
# The limits of 10-edge.envsh, as far as they are about commands.
start edge edge "$directory/edge" "$https" "$http" "127.0.0.1:$api_port" MULTIVAC_EDGE_RATE="${EDGE_RATE:-5}" MULTIVAC_EDGE_BURST="${EDGE_BURST:-3}"
until_true 30 curl_edge --fail --output /dev/null "$BASE/zzz" || fail "the edge does not answer"

mkdir "$directory/notes" "$directory/empty"
python3 - "$directory/notes" "$FILES" <<'NOTES'
import os, sys
for number in range(int(sys.argv[2])):
    folder = f"{sys.argv[1]}/{number // 500}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{number}.txt", "w") as file:
        file.write(f"Star number {number} went out in the year {number + 1000}. " + "Its light was on its way for long. " * 10)
NOTES

# command ARGUMENT…: runs the program as susan, and leaves its $code, out and err.
code=0
command_as() { # PASSWORD-FILE ARGUMENT…
    local file=$1
    shift
    code=0
    env HOME="$directory/empty" XDG_STATE_HOME="$directory/state" MULTIVAC_PASSWORD_FILE="$file" MULTIVAC_CA_FILE="$SECRETS/edge/tls.crt" \
        "$MULTIVAC_BUILT_API" "$@" >"$directory/out" 2>"$directory/err" || code=$?
    status="exit code $code: $(tail -n 3 "$directory/out" "$directory/err")"
}
as_susan_does() { command_as "$directory/password" "$@"; }
count_of() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$directory/out" "$1"; }
ledger() { curl_edge "$BASE/multivac/stats" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

wrong_password() {
    command_as "$directory/wrong" feed "$directory/notes" --to "$BASE" --user susan
    [[ $code == 3 ]] && grep -q 'the user name susan or its password is wrong' "$directory/err"
}
rule 'a wrong password is told plainly, and not tried again' wrong_password
no_password() {
    code=0
    env HOME="$directory/empty" XDG_STATE_HOME="$directory/state" MULTIVAC_CA_FILE="$SECRETS/edge/tls.crt" \
        "$MULTIVAC_BUILT_API" feed "$directory/notes" --to "$BASE" >"$directory/out" 2>"$directory/err" || code=$?
    [[ $code == 3 ]] && grep -q 'needs a user name and a password: --user' "$directory/err"
}
rule 'no password is told with how to give one' no_password
nobodys_certificate() {
    code=0
    env HOME="$directory/empty" MULTIVAC_PASSWORD_FILE="$directory/password" \
        "$MULTIVAC_BUILT_API" feed "$directory/notes" --to "$BASE" --user susan >"$directory/out" 2>"$directory/err" || code=$?
    [[ $code == 3 ]] && grep -q 'no safe connection' "$directory/err" && grep -q -- --ca-file "$directory/err"
}
rule 'a certificate that nobody vouches for gets no password' nobodys_certificate
to_http() {
    as_susan_does feed "$directory/notes" --to "http://127.0.0.1:$http" --user susan
    [[ $code == 3 ]] && grep -q 'sends on to https://.*not followed' "$directory/err"
}
rule 'a redirect is not followed, and told' to_http

killed_half_way() {
    local kills=0 feeding delay
    for delay in 0.1 0.3 0.6 1; do
        env HOME="$directory/empty" XDG_STATE_HOME="$directory/state" MULTIVAC_PASSWORD_FILE="$directory/password" \
            MULTIVAC_CA_FILE="$SECRETS/edge/tls.crt" "$MULTIVAC_BUILT_API" feed "$directory/notes" --to "$BASE" --user susan \
            --parallel 2 >"$directory/killed" 2>&1 &
        feeding=$!
        sleep "$delay"
        ! { tr '\0' ' ' <"/proc/$feeding/cmdline" | grep -F -- "$PASSWORD"; } 2>/dev/null || return 1
        if kill -KILL $feeding 2>/dev/null; then kills=$((kills + 1)); fi
        wait $feeding 2>/dev/null || true
    done
    [[ $kills -gt 1 ]] || return 1
    as_susan_does feed "$directory/notes" --to "$BASE" --user susan --json
    [[ $code == 0 && $(($(count_of accepted) + $(count_of known))) == "$FILES" && $(ledger accepted) == "$FILES" ]]
}
rule 'a folder that is fed again after kills is there once, through low limits' killed_half_way
by_netrc() {
    env -u MULTIVAC_PASSWORD_FILE HOME="$directory/empty" NETRC="$directory/netrc" XDG_STATE_HOME="$directory/state" \
        MULTIVAC_CA_FILE="$SECRETS/edge/tls.crt" "$MULTIVAC_BUILT_API" feed "$directory/notes" --to "$BASE" --json \
        >"$directory/out" 2>"$directory/err" && [[ $(count_of known) == "$FILES" ]]
}
rule 'netrc has the password as well, and the keys are of the user' by_netrc
too_many() {
    mkdir -p "$directory/lines"
    python3 -c 'for n in range(40_000): print("{\"data\": \"Line %d of many.\"}" % n)' >"$directory/lines/lines.ndjson"
    as_susan_does feed "$directory/lines" --to "$BASE" --user susan --parallel 8
    [[ $code == 0 ]] && grep -q 'replies 429 Too Many Requests.*trying again' "$directory/err" && [[ $(ledger accepted) == $((FILES + 40000)) ]]
}
rule 'too many requests are waited for' too_many

learned() { [[ $(ledger learned) == $((FILES + 40000)) ]]; }
rule 'all is learned' until_true 60 learned
answers() {
    as_susan_does ask 'When did star number 17 go out?' --to "$BASE"
    [[ $code == 0 && $(<"$directory/out") == 'Star number 17 went out in the year 1017.' && ! -s $directory/err ]]
}
rule 'ask prints the answer alone' answers
exports() {
    as_susan_does export "$directory/backup.gz" --to "$BASE" --user susan
    [[ $code == 0 ]] && grep -q "^$((FILES + 40000)) data and 0 tombstones in " "$directory/err"
}
rule 'export through the edge' exports
imports() {
    as_susan_does import "$directory/backup.gz" --to "$BASE" --user susan
    [[ $code == 0 ]] && grep -q 'the ledger agrees with the store' "$directory/err" && [[ $(ledger accepted) == $((FILES + 40000)) ]]
}
rule 'import through the edge' imports
asks_who() { send -X "$1" "$BASE$2" && is_problem 401; }
# The limit is low: not two at once.
rule 'export without a password' until_true 10 asks_who GET /multivac/export
rule 'import without a password' until_true 10 asks_who POST /multivac/import
no_secret() { ! grep -rqF -- "$PASSWORD" "$directory"/{out,err,killed,edge.log,api.log,state}; }
rule 'no output holds the password' no_secret

count_rules e2e-commands
