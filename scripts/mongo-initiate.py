#!/usr/bin/env python3
"""Makes a fresh mongod a replica set of one member, since only a replica set tells of changes:

    mongo-initiate.py [HOST:]PORT        127.0.0.1 unless a host is given

Waits until mongod listens, initiates the set rs0 with this address as its member, and returns when mongod is the primary.
Doing it again does no harm. Needs pymongo: python3 -m pip install pymongo
Status 1 and the reason if mongod is not the primary within 30 seconds; 2 if the call is wrong or pymongo is missing.
"""
import sys
import time


def fail(status, message):
    print(message, file=sys.stderr)
    sys.exit(status)


host, _, port = sys.argv[-1].rpartition(":")
if len(sys.argv) != 2 or not port.isdecimal():
    fail(2, __doc__.strip())
address = f"{host or '127.0.0.1'}:{port}"
try:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError
except ImportError:
    fail(2, "mongo-initiate: pymongo is missing: python3 -m pip install pymongo")

problem = "it does not become the primary"
deadline = time.monotonic() + 30
with MongoClient(address, directConnection=True, serverSelectionTimeoutMS=1000) as mongod:
    while time.monotonic() < deadline:
        try:
            if mongod.admin.command("hello")["isWritablePrimary"]:
                sys.exit(0)
            mongod.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": address}]})
        except PyMongoError as error:
            if getattr(error, "code", None) != 23:  # AlreadyInitialized: then it only has to become the primary
                problem = error
        time.sleep(0.1)
fail(1, f"mongo-initiate: mongod at {address}: {problem}")
