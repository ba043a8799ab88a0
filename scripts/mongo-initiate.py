#!/usr/bin/env python3
"""Makes a fresh mongod on 127.0.0.1 a replica set of one: mongo-initiate.py PORT

Waits for it to listen, sends replSetInitiate and returns when it is primary; status 1 and the reason
if that takes over 30 seconds. It speaks MongoDB's wire protocol (one OP_MSG there, one back), so that
neither mongosh nor a driver has to be installed for two commands.
"""
import socket
import struct
import sys
import time

OP_MSG = 2013


def bson(document):
    """Encodes strings, whole numbers, dictionaries and lists, which is all that the two commands hold."""
    body = b""
    for key, value in document.items():
        name = key.encode() + b"\0"
        if isinstance(value, str):
            text = value.encode() + b"\0"
            body += b"\x02" + name + struct.pack("<i", len(text)) + text
        elif isinstance(value, int):
            body += b"\x10" + name + struct.pack("<i", value)
        elif isinstance(value, list):
            body += b"\x04" + name + bson({str(i): item for i, item in enumerate(value)})
        else:
            body += b"\x03" + name + bson(value)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def run(port, command):
    """Sends one command to the database admin; returns the reply's BSON as it came."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        message = struct.pack("<IB", 0, 0) + bson({**command, "$db": "admin"})
        connection.sendall(struct.pack("<iiii", len(message) + 16, 1, 0, OP_MSG) + message)
        with connection.makefile("rb") as replies:
            length = struct.unpack("<i", replies.read(4))[0]
            return replies.read(length - 4)


def main(port):
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    deadline = time.monotonic() + 30
    problem = "it does not answer"
    while time.monotonic() < deadline:
        try:
            # A boolean (type 8) that is true. Initiating again what is initiated is refused and does no harm.
            if b"\x08isWritablePrimary\0\x01" in run(port, {"hello": 1}):
                return 0
            run(port, {"replSetInitiate": {"_id": "rs0", "members": members}})
            problem = "it does not become primary"
        except OSError as error:
            problem = str(error)
        except struct.error:
            problem = "it closed the connection"
        time.sleep(0.1)
    print(f"mongo-initiate: mongod on port {port}: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
