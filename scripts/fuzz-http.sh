#!/usr/bin/env bash
# Fuzzes multivac-api's HTTP interface from its own OpenAPI document: whatever is sent, no reply is a 5xx, and the
# program still runs and answers in the end.
#
#     scripts/fuzz-http.sh [SECONDS [SEED]]      60 seconds with seed 1, if not given
#
# What it does    Starts target/debug/multivac-api (or $MULTIVAC_API), embedded, on a free port, its data in a temporary
#                 directory; runs schemathesis against it; ends it and removes the directory.
# What it needs   the program (cargo build --workspace), bash, python3. schemathesis comes from PyPI, into a virtual
#                 environment in ${XDG_CACHE_HOME:-~/.cache}/multivac, the first time.
# What it returns 0 if no reply was a 5xx; 1 if one was (schemathesis says how to send it again); 2 if something is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

readonly SECONDS_IN_ALL=${1:-60} SEED=${2:-1}
readonly SCHEMATHESIS=schemathesis==4.32.5
readonly PROGRAM=${MULTIVAC_API:-target/debug/multivac-api}

say() { printf 'fuzz-http: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }
[[ -x $PROGRAM ]] || fail "$PROGRAM is missing: cargo build --workspace"
command -v python3 >/dev/null || fail "python3 is missing"
virtual_environment $SCHEMATHESIS

temporary_directory fuzz
unset REDIS_URL MONGO_URL
start api "$PROGRAM" --listen 127.0.0.1:0 --data-dir "$directory/data" --log-format text
listens_or_ended() { base=$(sed -n 's/^MultiVAC listens on //p' "$directory/api.log") && [[ -n $base ]] || ! kill -0 "$pid" 2>/dev/null; }
until_true 10 listens_or_ended || true
[[ -n $base ]] || fail "$PROGRAM does not listen: $(tail -n 3 "$directory/api.err.log")"

# The one form of body that schemathesis cannot write by itself.
cat >"$directory/ndjson.py" <<'PYTHON'
import json
import schemathesis

@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    if isinstance(value, (bytes, str)):
        return value
    values = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(value) for value in values).encode()
PYTHON

status=0
(cd "$directory" && PYTHONPATH=. SCHEMATHESIS_HOOKS=ndjson "$venv/bin/schemathesis" run "$base/openapi.json" --checks not_a_server_error --seed "$SEED" \
    --max-time "$SECONDS_IN_ALL" --request-timeout 30 --exclude-path /multivac/events --no-shrink --warnings off \
    --suppress-health-check all --continue-on-failure) || status=1
kill -0 "$pid" 2>/dev/null || { printf 'fuzz-http: the program died: %s\n' "$(tail -n 5 "$directory/api.err.log")" >&2; status=1; }
if grep -n -m 5 panicked "$directory/api.err.log" >&2; then status=1; fi
answered=$(python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1] + "/multivac", timeout=10).status)' "$base") || true
[[ $answered == 200 ]] || { printf 'fuzz-http: it does not answer any more\n' >&2; status=1; }
exit $status
