#!/usr/bin/env bash
# Tries the clients of examples/:
#
#     scripts/examples.sh
#
# What it does    Starts multivac-api, embedded, on a free port, its data in a temporary directory, and the edge in front of it; runs each
#                 client against both, against a server that is full at first, and against none.
# What it needs   bash, curl, openssl, python3, cargo. Node and nginx are installed from Debian's packages if they are missing (as root,
#                 or by sudo without a password).
# What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Some 20 s once built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh
. scripts/e2e-lib.sh

say() { printf 'examples: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }
if [[ -z ${MULTIVAC_BUILT_API:-} ]]; then build --tests; fi
: "${MULTIVAC_TEST_NGINX:=$(find_binary nginx)}"
[[ -n $MULTIVAC_TEST_NGINX ]] || apt_install nginx
command -v node >/dev/null || apt_install nodejs
MULTIVAC_TEST_NGINX=${MULTIVAC_TEST_NGINX:-$(find_binary nginx)}
export MULTIVAC_TEST_NGINX
unset REDIS_URL MONGO_URL MULTIVAC_USER MULTIVAC_PASSWORD_FILE

temporary_directory examples
readonly SECRETS=$directory/secrets
MULTIVAC_SECRETS=$SECRETS MULTIVAC_ENV_FILE=$directory/env scripts/setup.py 2>/dev/null
MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user susan 2>/dev/null >"$directory/password"
start api "$MULTIVAC_BUILT_API" --listen 127.0.0.1:0 --data-dir "$directory/data" --log-format text
listens() { base=$(sed -n 's/^MultiVAC listens on //p' "$directory/api.log") && [[ -n $base ]]; }
until_true 20 listens || fail "multivac-api does not listen: $(tail -n 3 "$directory/api.err.log")"
https=$(free_port)
start edge edge "$directory/edge" "$https" "$(free_port)" "${base#http://}"
until_true 20 curl_edge --fail --output /dev/null "https://localhost:$https/multivac/stats" || fail 'the edge does not answer'

# A server that is full at first: it refuses the first two requests, and passes the others on.
cat >"$directory/full.py" <<'PYTHON'
import http.client, http.server, sys, urllib.parse

class Full(http.server.BaseHTTPRequestHandler):
    refusals = 2

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if Full.refusals:
            Full.refusals -= 1
            self.reply(503 if Full.refusals else 429, [("Retry-After", "1")], b"")
            return
        api = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc, timeout=30)
        api.request(self.command, self.path, body, dict(self.headers))
        reply = api.getresponse()
        self.reply(reply.status, [(name, value) for name, value in reply.getheaders() if name == "content-type"], reply.read())

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in [*headers, *([("Content-Length", str(len(body)))] if status != 204 else [])]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Full)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
PYTHON

seen() { cat "$directory/out" "$directory/err"; }
run() { timeout 60 "examples/$@" >"$directory/out" 2>"$directory/err"; }
# It printed the answer, and the id of the evidence, which is the datum that it fed and took back.
did_it() {
    python3 - "$directory/out" <<'CHECK'
import re, sys
printed = open(sys.argv[1]).read()
found = re.fullmatch(r"answer: Penguins eat krill and small fish\.\nevidence: ([0-9a-f-]{36})\nretracted: ([0-9a-f-]{36})\n", printed)
sys.exit(not found or found[1] != found[2])
CHECK
}
works() { run "$@" && did_it && [[ ! -s $directory/err ]]; }
through_the_edge() {
    MULTIVAC_USER=susan MULTIVAC_PASSWORD_FILE=$directory/password CURL_CA_BUNDLE=$SECRETS/edge/tls.crt SSL_CERT_FILE=$SECRETS/edge/tls.crt \
        NODE_EXTRA_CA_CERTS=$SECRETS/edge/tls.crt works "$1" "https://localhost:$https"
}
waits() {
    start "full-$1" python3 "$directory/full.py" "$base"
    until_true 10 test -s "$directory/full-$1.log" || return 1
    local started=$SECONDS
    run "$1" "$(<"$directory/full-$1.log")" && did_it && [[ $((SECONDS - started)) -ge 1 ]]
}
# It fails, says why, and prints no answer.
fails() {
    local what=$1
    shift
    ! run "$@" && grep -q "$what" "$directory/err" && [[ ! -s $directory/out ]]
}
without_password() { CURL_CA_BUNDLE=$SECRETS/edge/tls.crt SSL_CERT_FILE=$SECRETS/edge/tls.crt NODE_EXTRA_CA_CERTS=$SECRETS/edge/tls.crt fails 401 "$1" "https://localhost:$https"; }
no_password_file() { MULTIVAC_USER=susan MULTIVAC_PASSWORD_FILE=$directory/nothing fails "$directory/nothing" "$1" "$base"; }
short() { saw="$(wc -l <"examples/$1") lines" && [[ $(wc -l <"examples/$1") -lt 40 ]]; }
nobody=http://127.0.0.1:$(free_port)
for example in feed-and-ask.sh feed-and-ask.py feed-and-ask.mjs; do
    rule "$example has less than 40 lines" short $example
    rule "$example feeds, asks and retracts" works $example "$base"
    rule "$example does so again" works $example "$base"
    rule "$example with a password, through the edge" through_the_edge $example
    rule "$example waits for a server that is full" waits $example
    rule "$example without a password" without_password $example
    rule "$example with a password file that is not there" no_password_file $example
    rule "$example says that no server is there" fails "${nobody##*:}" $example "$nobody"
done
balances() {
    curl --silent --noproxy '*' "$base/multivac/stats" >"$directory/out"
    python3 -c 'import json, sys; stats = json.load(open(sys.argv[1])); sys.exit(stats["accepted"] != stats["retracted"] or stats["accepted"] != 12)' "$directory/out"
}
rule 'each fed one datum each time, and left none' balances
count_rules examples
