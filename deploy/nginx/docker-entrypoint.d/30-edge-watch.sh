#!/bin/sh
# Run by the image's entrypoint: finds the api's replicas, then leaves a watcher behind that has nginx read its
# configuration again, without dropping a connection, when
#
# - the replicas have changed: every address of MULTIVAC_EDGE_API's names that says it is ready. nginx itself asks DNS
#   only once, at its start. While none is ready, or DNS does not answer, the last that were stay;
# - the certificate or its key has changed. A pair that does not fit is passed over until it does.
#
# (Who may change data is read by nginx at every request.)
set -eu

conf=$MULTIVAC_EDGE_DIR/nginx.conf
upstream=$MULTIVAC_EDGE_DIR/upstream.conf
pid=$MULTIVAC_EDGE_DIR/nginx.pid

say() { echo "multivac edge: $*" >&2; }

# The addresses of every name, sorted; a name that is not found has none.
addresses() {
    for target in $(echo "$MULTIVAC_EDGE_API" | tr ',' ' '); do
        port=${target##*:}
        getent ahosts "$(echo "${target%:*}" | tr -d '[]')" | while read -r address _; do
            case $address in *:*) echo "[$address]:$port" ;; *) echo "$address:$port" ;; esac
        done
    done | sort -u
}

ready() {
    for address in $(addresses); do
        if curl --noproxy '*' --silent --fail --max-time 2 --output /dev/null "http://$address/readyz"; then echo "$address"; fi
    done
}

# A failed replica is left alone for a second, within which it is found not to be ready.
servers() {
    for address in "$@"; do echo "server $address max_fails=2 fail_timeout=1s;"; done
}

certificate() { cat "$MULTIVAC_EDGE_CERTIFICATE" "$MULTIVAC_EDGE_KEY" 2>/dev/null | cksum; }

# reload: tries the configuration as it is now, then has nginx take it up.
reload() { nginx -t -q -c "$conf" 2>/dev/null && nginx -s reload -c "$conf" 2>/dev/null; }

watch() {
    known_servers=$1 known_certificate=$2
    started=
    while sleep "$MULTIVAC_EDGE_WATCH_SECONDS"; do
        if [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
            started=yes
        elif [ -n "$started" ]; then
            return # with nginx
        else
            continue
        fi
        now=$(ready)
        if [ -n "$now" ] && [ "$now" != "$known_servers" ]; then
            servers $now >"$upstream.new" && mv "$upstream.new" "$upstream"
            if reload; then
                say "replicas:" $now
                known_servers=$now
            fi
        fi
        now=$(certificate)
        if [ "$now" != "$known_certificate" ] && reload; then
            say "the certificate has changed"
            known_certificate=$now
        fi
    done
}

first=$(ready)
[ -n "$first" ] || first=$(addresses)
# Port 9 discards: a replica that is never there, until one is.
servers ${first:-127.0.0.1:9} >"$upstream"
say "replicas:" ${first:-none yet}
watch "$first" "$(certificate)" &
