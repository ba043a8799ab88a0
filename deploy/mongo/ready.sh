#!/usr/bin/env bash
# Whether a member of the replica set may be counted on:
#
#     ready.sh [HOST] [PORT]
#
# What it does    Asks mongod for its `hello`, in the few bytes of MongoDB's own protocol that this takes: mongosh needs one or two seconds of
#                 a core for it, every time. HOST is this machine's own name unless given: while the image makes the administrator, mongod
#                 listens on the loopback address alone.
# What it needs   bash, timeout, dd, grep.
# What it returns 0 for the primary, for a secondary that is up to date, and for one that belongs to no set yet; else 1.
set -euo pipefail

# OP_MSG (opcode 2013), 52 bytes long, with the document { hello: 1, $db: "admin" }.
readonly HEAD='\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0'
readonly DOCUMENT='\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0'

export HOST=${1:-$HOSTNAME} PORT=${2:-27017} QUESTION=$HEAD$DOCUMENT
# One read is enough: the reply is one message of about a thousand bytes. NUL would end what bash keeps in a variable.
reply=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$HOST/$PORT" && printf "$QUESTION" >&3 && dd bs=64k count=1 <&3 2>/dev/null' | tr '\0\1' '.!')
# A boolean in BSON: its name, NUL, and 1 for true.
if [[ $reply == *isWritablePrimary.!* || $reply == *secondary.!* ]]; then exit 0; fi
[[ $reply == *isWritablePrimary.* && $reply != *setName* ]]
