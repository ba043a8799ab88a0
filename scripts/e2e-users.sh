# shellcheck shell=bash
# The part of e2e.sh about passwords: who may do what, and what only those may read who have one. Sourced by it, after the edge is
# started; needs what e2e-lib.sh needs.

asks_who() { send -X "$1" "$BASE$2" && is_problem 401 && [[ $(header www-authenticate) == 'Basic realm="MultiVAC"' ]]; }
for method in POST PUT PATCH DELETE ERASE; do
    rule "$method without a password" asks_who $method /multivac/data
done
rule 'DELETE of a datum without a password' asks_who DELETE /multivac/data/01a2070d-70f8-71de-8994-146c5af941d2
rule 'bulk without a password' asks_who POST /multivac/data/bulk
wrong() { send --user "$1" "$BASE/multivac/data" -d data=x && is_problem 401; }
rule 'a wrong password' wrong susan:multivac
wrong_place() { send --user 'password-for-a-name:' -X POST "$BASE/nothing" && is_problem 401; }
rule 'a path that does not exist needs a password as well' wrong_place
rule 'an unknown user name' wrong "calvin:$PASSWORD"
rule 'no password at all' wrong susan:
feeds() { feed "$1" && [[ $status == 200 && $(json_of response) == 'MultiVAC updated!' && $(header location) == /multivac/data/$(json_of id) ]]; }
rule 'POST with the password' feeds 'Susan Calvin was a robopsychologist.'
new_person() {
    local password
    password=$(MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user lenny 2>/dev/null)
    send --user "lenny:$password" "$BASE/multivac/data" -d data=robot && [[ $status == 200 ]] &&
        MULTIVAC_SECRETS=$SECRETS scripts/setup.py --remove-user lenny 2>/dev/null && send --user "lenny:$password" "$BASE/multivac/data" -d data=x && is_problem 401
}
rule 'a user is added and removed at once' new_person
# Whatever a client says of itself.
keyed() { send --user "$1" -H "X-Multivac-User: $2" -H 'Idempotency-Key: of its user' "$BASE/multivac/data" --data-urlencode "data=$3"; }
key_of_a_user() {
    local password id
    password=$(MULTIVAC_SECRETS=$SECRETS scripts/setup.py --user lenny 2>/dev/null)
    keyed "susan:$PASSWORD" lenny 'A robot may not injure a human being.' && [[ $status == 200 ]] || return 1
    id=$(json_of id)
    keyed "susan:$PASSWORD" nobody 'A robot may not injure a human being.' && [[ $status == 200 && $(json_of id) == "$id" ]] || return 1
    keyed "susan:$PASSWORD" lenny 'A robot must obey.' && is_problem 422 || return 1
    keyed "lenny:$password" susan 'A robot must obey.' && [[ $status == 200 && $(json_of id) != "$id" ]] || return 1
    MULTIVAC_SECRETS=$SECRETS scripts/setup.py --remove-user lenny 2>/dev/null
}
rule 'an Idempotency-Key belongs to its user' key_of_a_user
bulk() { as_susan "$BASE/multivac/data/bulk" -H 'Content-Type: application/x-ndjson' --data-binary $'{"data":"One."}\n{"data":"Two."}\n' && [[ $status == 200 && $(json_of accepted) == 2 ]]; }
rule 'bulk with the password' bulk

# Not for everybody, reading included: dead letters hold the texts that were fed. However the address is written, the edge reads it
# as the api does, or as something that the api does not have.
readonly UNKNOWN=01a2070d-70f8-71de-8994-146c5af941d2
asks_who_as_written() { send --path-as-is -X "$1" "$BASE$2" && is_problem 401 && [[ $(header www-authenticate) == 'Basic realm="MultiVAC"' ]]; }
for path in /docs /multivac/system //multivac/system /multivac/%73ystem /multivac/x/../system /multivac/system/ /multivac/dead /multivac/dead/ "/multivac/dead/$UNKNOWN" '/multivac/dead?limit=1' //multivac/dead /multivac//dead \
    /multivac/./dead /multivac/x/../dead /multivac/stats/%2e%2e/dead /multivac/%64ead "/multivac/dea%64/$UNKNOWN" /%6dultivac/dead \
    '/multivac%2Fdead' '/multivac/dead%2F' '/multivac/dead%3Flimit=1' '/multivac/dead;x' /multivac/deadletters; do
    for method in GET HEAD; do
        if [[ $method == HEAD ]]; then
            asks_who_for_head() { send --path-as-is --head "$BASE$path" && [[ $status == 401 ]]; }
            rule "HEAD $path without a password" asks_who_for_head
        else
            rule "GET $path without a password" asks_who_as_written GET "$path"
        fi
    done
done
rule 'OPTIONS /multivac/dead without a password' asks_who OPTIONS /multivac/dead
for path in /retry "/$UNKNOWN/retry"; do rule "POST /multivac/dead$path without a password" asks_who POST "/multivac/dead$path"; done
rule 'DELETE of a dead letter without a password' asks_who DELETE "/multivac/dead/$UNKNOWN"
# Nothing else comes to the dead letters: not a fragment, another case, or an address that is encoded twice.
no_dead_letters() { send --path-as-is --request-target "$1" "$BASE/" && [[ $status != 200 || $(<"$directory/body") != *'"dead":['* ]]; }
for target in '/multivac/stats#/../dead' /multivac/%2564ead /MULTIVAC/DEAD '/multivac/stats\..\dead' "$BASE/multivac/dead" '/multivac/dead#'; do
    rule "no dead letters at $target" no_dead_letters "$target"
done
wrong_reader() { send --user susan:multivac "$BASE$1" && is_problem 401; }
rule 'dead letters with a wrong password' wrong_reader /multivac/dead
reads() { as_susan "$BASE$1" && body_is 200 "$2"; }
rule 'the dead letters with the password' reads /multivac/dead '{"dead":[],"next":null}'
rule 'the same, as it may be written' reads /multivac/%64ead '{"dead":[],"next":null}'
reader_is_logged() {
    as_susan "$BASE/multivac/dead?limit=7" && until_true 5 grep -q '"user":"susan","method":"GET","path":"/multivac/dead"' "$directory/edge.log"
}
rule 'who read them is in the log' reader_is_logged
one() { as_susan "$BASE/multivac/dead/$UNKNOWN" && is_problem 404; }
rule 'a dead letter that is not there, with the password' one
retries() { as_susan -X POST "$BASE/multivac/dead/retry" && body_is 202 '{"retried":0}'; }
rule 'all are retried with the password' retries
foreign_retry() { as_susan -X POST "$BASE/multivac/dead/retry" -H 'Sec-Fetch-Site: cross-site' && is_problem 403; }
rule 'not for a page of another site' foreign_retry
system() { as_susan "$BASE/multivac/system" && [[ $status == 200 && $(json_of embedded) == False && $(header x-accel-buffering) == '' ]]; }
rule 'the system with the password' system
# The first event at once, though the stream goes on; over HTTP/2.
system_events() {
    as_susan --max-time 2 --no-buffer -H 'Accept: text/event-stream' "$BASE/multivac/system"
    grep -q '^event: system$' "$directory/body" && grep -q '^data: {"version":' "$directory/body"
}
rule 'its events come unbuffered' system_events
docs() { as_susan "$BASE/docs" && guarded && [[ $status == 200 && $(header content-security-policy) == *"script-src 'sha256-"* && $(header content-security-policy | wc -l) == 1 ]]; }
rule 'GET /docs with the password, with a policy of its own' docs
