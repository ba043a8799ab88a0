#!/usr/bin/env bash
# Feeds MultiVAC a text, waits until it is learned, asks, and takes the text back: feed-and-ask.sh [URL]
set -euo pipefail
url=${1:-http://127.0.0.1:5000}
text='Penguins eat krill and small fish.' question='What do penguins eat?'
login=''
if [[ -n ${MULTIVAC_USER:-} ]]; then
    password=$(<"$MULTIVAC_PASSWORD_FILE")
    password=${password//\\/\\\\}
    login="user = \"$MULTIVAC_USER:${password//\"/\\\"}\""
fi

# curl comes back by itself after a 429 or 503, when the reply's Retry-After says. The password goes through a pipe, since
# everybody may see arguments.
call() {
    curl --silent --show-error --fail --retry 5 --retry-max-time 120 --max-time 30 --config <(printf '%s\n' "$login") "$@"
}
first() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# The same key again is the same datum, so that it is safe to send this again.
key="example-$(date +%s)-$$-$RANDOM"
id=$(call "$url/multivac/data" -H "Idempotency-Key: $key" --data-urlencode "data=$text" | first id)

for _ in {1..600}; do
    status=$(call "$url/multivac/data/$id" | first status)
    [[ $status == queued ]] || break
    sleep 0.1
done
[[ $status == processed ]] || { echo "the datum is $status" >&2; exit 1; }

ask() { call --get "$url/multivac" --data-urlencode "question=$question" "$@"; }
printf 'answer: %s\n' "$(ask)"
printf 'evidence: %s\n' "$(ask -H 'Accept: application/json' | sed 's/.*"evidence":\[{"id":"\([^"]*\)".*/\1/')"

call -X DELETE "$url/multivac/data/$id" >/dev/null
echo "retracted: $id"
