#!/bin/sh
# Starts a node of a Redis Cluster whose nodes are known by names that stay while their addresses change, as on Kubernetes:
#
#     cluster-node.sh [ARGUMENT OF redis-server]…
#
# What it does    Runs start.sh as a node, and beside it, for as long as it runs, introduces it to the others by name whenever it does not
#                 know all of them: Redis itself remembers addresses alone, so nodes that all came back with new ones would not find
#                 each other again.
# What it needs   MULTIVAC_REDIS_NODES: the names of all nodes, with spaces between them; HOSTNAME, the first part of this one's;
#                 POD_IP, its address; NODE_NAME, the machine that it runs on, which cluster-init.sh asks for; and what start.sh needs,
#                 admin_password in the secret.
# What it returns redis-server's status.
set -eu

REDISCLI_AUTH=$(cat /run/secrets/redis/admin_password)
export REDISCLI_AUTH
cli() { timeout 5 redis-cli --user admin --no-auth-warning "$@" 2>/dev/null; }

knows_all() {
    cli cluster info | tr -d '\r' | grep -qx 'cluster_state:ok' &&
        cli cluster nodes | awk -v all="$(echo "$MULTIVAC_REDIS_NODES" | wc -w)" '
            $3 !~ /fail|handshake|noaddr/ && ($3 ~ /myself/ || $8 == "connected") { known++ } END { exit known < all }'
}

introduce() {
    for name in $MULTIVAC_REDIS_NODES; do
        address=$(getent hosts "$name" | awk '{ print $1; exit }')
        [ -z "$address" ] || cli cluster meet "$address" 6379 >/dev/null || true
    done
}

while sleep 2; do
    knows_all || introduce
done &

for name in $MULTIVAC_REDIS_NODES; do
    case $name in "$HOSTNAME".*) self=$name ;; esac
done
# `syslog-ident` is used for nothing else here, and any client with the right to may ask for it.
exec sh "$(dirname "$0")/start.sh" --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 5000 \
    --cluster-require-full-coverage yes --cluster-announce-ip "$POD_IP" --cluster-announce-hostname "$self" \
    --cluster-preferred-endpoint-type hostname --min-replicas-to-write 1 --syslog-ident "$NODE_NAME" "$@"
