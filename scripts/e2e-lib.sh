# shellcheck shell=bash
# What e2e.sh's rules are made of: an edge, requests to it, and what their replies should be. Sourced after lib.sh; $SECRETS and
# $BASE are those of the edge that is asked.

fail() {
    printf 'e2e: %s\n' "$*" >&2
    tail -n 5 "$directory"/*.log >&2
    exit 1
}

# What a broken rule saw.
seen() { printf 'status %s, %s' "$status" "$(head -c 300 "$directory/body")"; }

# edge DIRECTORY HTTPS HTTP API [NAME=VALUE…]: does what the image's entrypoint does, and replaces this process by
# nginx; fails if nginx does not start.
edge() {
    local run=$1 nginx=(nginx)
    [[ -z ${MULTIVAC_TEST_NGINX:-} ]] || nginx=("$MULTIVAC_TEST_NGINX")
    # Run by root, nginx's workers would run as `nobody`, who cannot read the secrets. The image does not run as root.
    local as='daemon off;'
    [[ $(id -u) != 0 ]] || as+=' user root root;'
    export MULTIVAC_EDGE_DIR=$run MULTIVAC_EDGE_LISTEN=127.0.0.1:$2 MULTIVAC_EDGE_REDIRECT_LISTEN=127.0.0.1:$3 \
        MULTIVAC_EDGE_PUBLIC_PORT=$2 MULTIVAC_EDGE_API=$4 \
        MULTIVAC_EDGE_CERTIFICATE=$SECRETS/edge/tls.crt MULTIVAC_EDGE_KEY=$SECRETS/edge/tls.key \
        MULTIVAC_EDGE_HTPASSWD=$SECRETS/edge/htpasswd MULTIVAC_EDGE_BURST=500 MULTIVAC_EDGE_RATE=500 \
        MULTIVAC_EDGE_CONNECTIONS=10 MULTIVAC_EDGE_METRICS_LISTEN=off
    shift 4
    [[ $# == 0 ]] || export "$@"
    PATH=$(dirname "${nginx[0]}"):$PATH:/usr/sbin
    . deploy/nginx/docker-entrypoint.d/10-edge.envsh
    local template
    for template in deploy/nginx/templates/*.template; do
        python3 -c 'import os, re, sys
print(re.sub(r"\$\{(MULTIVAC_EDGE_\w+)\}", lambda found: os.environ.get(found[1], found[0]), sys.stdin.read()))' \
            <"$template" >"$run/$(basename "$template" .template)"
    done
    # The watcher that it starts ends with nginx.
    deploy/nginx/docker-entrypoint.d/30-edge-watch.sh
    exec "${nginx[@]}" -c "$run/nginx.conf" -g "$as"
}

# --- asking -----------------------------------------------------------------------------------------------------

status=''

curl_edge() { curl --silent --ipv4 --noproxy '*' --cacert "$SECRETS/edge/tls.crt" --max-time 45 "$@"; }

# send CURL-ARGUMENTS…: leaves $status, and the reply in head and body.
send() {
    : >"$directory/body" >"$directory/head"
    local error=0
    status=$(curl_edge --output "$directory/body" --dump-header "$directory/head" --write-out '%{http_code}' "$@") || error=$?
    [[ $status != 000 ]] || status="none (curl's error $error)"
}

# as_susan …: sends with the right password, which does not show in a list of processes.
as_susan() { send --config <(printf 'user = "susan:%s"' "$PASSWORD") "$@"; }

body_is() { [[ $status == "$1" && $(<"$directory/body") == "$2" ]]; }

header() { tr -d '\r' <"$directory/head" | awk -v name="$1" 'BEGIN { FS = ": " } tolower($1) == tolower(name) { print substr($0, length($1) + 3) }'; }

# is_problem STATUS: the reply is a problem document like the api's, with a trace id.
is_problem() {
    [[ $status == "$1" && $(header content-type) == application/problem+json ]] || return 1
    python3 - "$directory/body" "$1" <<'CHECK' 2>/dev/null
import json, re, sys
problem = json.load(open(sys.argv[1]))
assert set(problem) == {"type", "title", "status", "detail", "trace_id"}, problem
assert problem["status"] == int(sys.argv[2]) and problem["title"] and problem["detail"], problem
assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"]), problem
CHECK
}

get_is() { send "$BASE$1" && [[ $status == "$2" ]]; }
feed() { as_susan "$BASE/multivac/data" --data-urlencode "data=$1"; }
json_of() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$directory/body" "$1"; }
