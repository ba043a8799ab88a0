#!/usr/bin/env python3
"""A replica of the api that does what a real one does only at times; e2e.sh puts an edge in front of it.

    e2e-replica.py TOLD FENCED [ANSWERS]

What it does    Listens on a free port of 127.0.0.1, prints it, and answers:
                  GET /multivac/events   one event, and another once the file TOLD is there
                  GET /multivac          503, as a replica does that cannot know of retractions; while the file ANSWERS is there, an
                                         answer that may be kept
                  GET /readyz            200; once the file FENCED is there, what a fenced replica says
                  GET /zzz               how many questions and data came so far, and the trace that came with this request
                  POST …                 503, as with a queue that is out of reach
                  all else               200
"""

import collections
import http.server
import json
import os
import sys
import time

PROBLEM = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "not now", "trace_id": "0" * 31 + "1"}
seen = collections.Counter()


class Replica(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body="", **headers):
        body = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self):
        self.reply(503, json.dumps(PROBLEM), Content_Type="application/problem+json", Retry_After="7")

    def do_GET(self):
        if self.path == "/multivac/events":
            return self.events()
        if self.path == "/multivac":
            seen["questions"] += 1
            if len(sys.argv) > 3 and os.path.exists(sys.argv[3]):
                return self.reply(200, "42", ETag='"42"', Cache_Control="no-cache", X_Accel_Expires="@1")
            return self.refuse()
        if self.path == "/readyz" and os.path.exists(sys.argv[2]):
            return self.reply(503, json.dumps({"ready": False, "missing": ["fenced: it cannot know"], "warnings": []}))
        trace = {name: self.headers[name] for name in ["traceparent", "tracestate", "x-request-id"]}
        self.reply(200, json.dumps(seen | trace) if self.path == "/zzz" else "")

    def do_POST(self):
        seen["data"] += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.refuse()

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"event: stats\ndata: 1\n\n")
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.05)
        self.wfile.write(b"event: stats\ndata: 2\n\n")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica)
print(server.server_address[1], flush=True)
server.serve_forever()
