#!/bin/sh
# Starts a node of a Redis Cluster whose nodes are known by names that stay while their addresses change, as on Kubernetes:
#
#     cluster-node.sh [ARGUMENT OF redis-server]…
#
# What it does    Runs start.sh as a node, and beside it, for as long as it runs, introduces it to the others by name whenever it does not
#                 know all of them, and has it copy from where its master is now: Redis itself remembers addresses alone, so nodes that all
#                 came back with new ones would not find each other again.
# What it needs   MULTIVAC_REDIS_NODES: the names of all nodes, with spaces between them; HOSTNAME, the first part of this one's;
#                 POD_IP, its address; NODE_NAME, the machine that it runs on, which cluster-init.sh asks for; and what start.sh needs,
#                 admin_password in the secret.
# What it returns redis-server's status.
set -eu

REDISCLI_AUTH=$(cat /run/secrets/redis/admin_password)
export REDISCLI_AUTH
cli() { timeout 5 redis-cli --user admin --no-auth-warning "$@" 2>/dev/null | tr -d '\r'; }

# What is to be done: `introduce` unless it knows all others (the cluster's state does not tell: it is bad while nobody has slots); and
# `replicate ID` if it copies from an address that its master no longer has. Redis corrects that one only where it learns the new one from
# the master itself, not where another node tells it first; until then the master, with no replica, would take no writes.
todo() {
    printf 'info replication\ncluster nodes\n' | cli | awk -v all="$(echo "$MULTIVAC_REDIS_NODES" | wc -w)" '
        /^master_host:/ { copied = substr($0, 13) }
        NF >= 8 { address[$1] = $2; sub(/:[0-9]+@.*/, "", address[$1]) }
        $3 ~ /myself/ { known++; master = $4 }
        $3 !~ /myself|fail|handshake|noaddr/ && $8 == "connected" { known++ }
        END {
            if (known < all) print "introduce"
            if (copied != "" && address[master] != "" && address[master] != copied) print "replicate " master
        }'
}

# Only to whom has our password and says that this is its name: what DNS said a moment ago may be the address of another's Redis by now,
# and two clusters that meet become one.
introduce() {
    for name in $MULTIVAC_REDIS_NODES; do
        address=$(getent hosts "$name" | awk '{ print $1; exit }')
        [ -n "$address" ] || continue
        [ "$(cli -h "$address" config get cluster-announce-hostname | sed -n 2p)" = "$name" ] || continue
        cli cluster meet "$address" 6379 >/dev/null || true
    done
}

while sleep 2; do
    todo | while read -r what master; do
        case $what in
            introduce) introduce ;;
            replicate) cli cluster replicate "$master" >/dev/null || true ;;
        esac
    done
done &

for name in $MULTIVAC_REDIS_NODES; do
    case $name in "$HOSTNAME".*) self=$name ;; esac
done
# `syslog-ident` is used for nothing else here, and any client with the right to may ask for it.
exec sh "$(dirname "$0")/start.sh" --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 5000 \
    --cluster-require-full-coverage yes --cluster-announce-ip "$POD_IP" --cluster-announce-hostname "$self" \
    --cluster-preferred-endpoint-type hostname --min-replicas-to-write 1 --syslog-ident "$NODE_NAME" "$@"
