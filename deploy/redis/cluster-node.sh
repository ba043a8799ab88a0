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

# What is to be done: `meet NAME ADDRESS` for each node that it is not connected with, and where it looks for that one; and
# `replicate ID` if it copies from an address that its master no longer has. Redis corrects that one only where it learns the new one from
# the master itself, not where another node tells it first; until then the master, with no replica, would take no writes.
todo() {
    printf 'info replication\ncluster nodes\n' | cli | awk -v names="$MULTIVAC_REDIS_NODES" '
        /^master_host:/ { copied = substr($0, 13) }
        NF >= 8 && $2 ~ /@/ {
            # ADDRESS:PORT@BUS,NAME and, from 7.2 on, more after another comma.
            split($2, parts, ","); name = parts[2]; address[$1] = parts[1]; sub(/:[0-9]+@.*/, "", address[$1])
            if ($3 ~ /myself/) master = $4
            if ($3 ~ /myself/ || ($3 !~ /fail|handshake|noaddr/ && $8 == "connected")) there[name] = 1
            else if ($3 !~ /handshake|noaddr/) looks[name] = address[$1]
        }
        END {
            count = split(names, name_of, " ")
            for (i = 1; i <= count; i++) if (!there[name_of[i]]) print "meet " name_of[i] " " looks[name_of[i]]
            if (copied != "" && address[master] != "" && address[master] != copied) print "replicate " master
        }'
}

# meet NAME ADDRESS: unless it is still at that address, where Redis tries by itself. Only who has our password and says that this is its
# name: what DNS said a moment ago may be the address of another's Redis by now, and two clusters that meet become one.
meet() {
    address=$(getent hosts "$1" | awk '{ print $1; exit }')
    [ -n "$address" ] && [ "$address" != "${2:-}" ] || return 0
    [ "$(cli -h "$address" config get cluster-announce-hostname | sed -n 2p)" = "$1" ] || return 0
    cli cluster meet "$address" 6379 >/dev/null || true
}

while sleep 2; do
    todo | while read -r what who where; do
        case $what in
            meet) meet "$who" "$where" ;;
            replicate) cli cluster replicate "$who" >/dev/null || true ;;
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
