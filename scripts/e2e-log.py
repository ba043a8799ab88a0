#!/usr/bin/env python3
"""The edge's log under hostile requests; e2e-observe.sh runs it.

    e2e-log.py send HTTPS HTTP PASSWORD   sends requests whose every part may break a line of the log, to both ports
    e2e-log.py gcp LOG PREFIX             checks the lines in the form that Google Cloud Logging reads; traces begin with PREFIX
    e2e-log.py json LOG                   checks the lines in the edge's own form
    e2e-log.py watcher LOG                checks that the watcher's lines are JSON as well

What it returns 0 if what is said above holds; 1 and what it saw if not.
"""

import base64
import datetime
import json
import re
import socket
import ssl
import sys

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "unspeakable"

# What a client can choose, as the bytes of a request's head.
AGENTS = [b'quote " and backslash \\', b"\xff\xfe not UTF-8", "fire 🔥".encode(), b"tab\there", b"x" * 5000, b"\x7f", b"\\u0000", b""]
PATHS = [b'/q"uote', b"/back\\slash", b"/new%0aline", b"/\xff\xfe", "/🔥".encode(), b"/zzz?question=" + SECRET.encode(), b"/%00", b"/a//b/../c", b"/zzz#" + SECRET.encode(),
         b"http://other.example/zzz?" + SECRET.encode()]
HOSTS = [b'a"b', b"\xff", b"a\\b", b"UPPER.example:1", b"[::1]", b"a?" + SECRET.encode(), b"user:" + SECRET.encode() + b"@host"]
# The traceparent, and whether it is one (https://www.w3.org/TR/trace-context/#traceparent-header).
PARENTS = [
    (f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", True), (f"00-{TRACE}-{SPAN}-03", True),
    (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True), (f"cc-{TRACE}-{SPAN}-01", True),
    (f"00-{TRACE}-{SPAN}-01-x", False), (f"ff-{TRACE}-{SPAN}-01", False), (f"00-{'0' * 32}-{SPAN}-01", False),
    (f"00-{TRACE}-{'0' * 16}-01", False), (f"00-{TRACE.upper()}-{SPAN}-01", False), (f'00-{TRACE}"-{SPAN}-01', False),
    (f"cc-{TRACE}-{SPAN}-01x", False), ("", False),
]


def head(path=b"/zzz", host=b"localhost", agent=b"e2e", more=b"", method=b"GET"):
    return method + b" " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: " + agent + b"\r\n" + more + b"Connection: close\r\n\r\n"


def requests(password):
    yield from (head(agent=agent) for agent in AGENTS)
    yield from (head(path=path) for path in PATHS)
    yield from (head(host=host) for host in HOSTS)
    yield from (head(agent=b"parent-%d" % n, more=b"traceparent: " + parent.encode() + b"\r\ntracestate: a=b\r\n") for n, (parent, _) in enumerate(PARENTS))
    yield from (head(method=method) for method in [b"POST", b"DELETE", b"M" * 100, b"get", b'G"T'])
    yield from [b"GET /zzz\r\n\r\n", b"hello\r\n\r\n", b"GET /zzz HTTP/1.0\r\n\r\n", b"GET /zzz HTTP/9.9\r\n\r\n", b"\x16\x03\x01 no TLS\r\n\r\n"]
    for user in [f"susan:{password}", f"{SECRET}:x", f'qu"ote:{SECRET}', "\udcff:x"]:
        told = base64.b64encode(user.encode(errors="surrogateescape"))
        yield head(method=b"POST", path=b"/multivac/data", more=b"Authorization: Basic " + told + b"\r\nContent-Length: 0\r\n")


def send(port, request, tls):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        try:
            connection.sendall(request)
            while connection.recv(65536):
                pass
        except OSError:
            pass


def pairs(found):
    """Of an object, each name once."""
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), names
    return dict(found)


def lines_of(path):
    with open(path, "rb") as log:
        for line in log:
            text = line.decode()  # Fails where it is not UTF-8.
            assert SECRET not in text, text
            yield json.loads(text, object_pairs_hook=pairs)


def check_time(text):
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    assert at.tzinfo is not None and abs(datetime.datetime.now(datetime.timezone.utc) - at) < datetime.timedelta(minutes=10), text


def check_gcp(path, prefix):
    severities, statuses, parents = set(), set(), 0
    for line in lines_of(path):
        request = line["httpRequest"]
        status = request["status"]
        assert type(status) is int and type(line["logging.googleapis.com/trace_sampled"]) is bool, line
        assert line["severity"] == ("ERROR" if status >= 500 else "WARNING" if status >= 400 or status == 0 else "INFO"), line
        check_time(line["time"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)", line["time"]), line
        for name in ["requestSize", "responseSize"]:
            assert re.fullmatch(r"\d+", request[name]), line
        assert re.fullmatch(r"\d+\.\d{3}s", request["latency"]), line
        assert re.fullmatch(r"https?://[0-9A-Za-z._:\[\]-]+(/[!->@-~]*|\(not ASCII\)|)", request["requestUrl"]), line
        assert re.fullmatch(r"127(\.\d+){3}", request["remoteIp"]), line
        assert len(request["userAgent"]) <= 500 and set(request) <= {
            "requestMethod", "requestUrl", "status", "requestSize", "responseSize", "userAgent", "remoteIp", "latency", "protocol"}, line
        assert line["message"] and line["logging.googleapis.com/labels"] == {"program": "edge"}, line
        trace = line["logging.googleapis.com/trace"]
        assert trace.startswith(prefix), line
        check_trace(trace.removeprefix(prefix), line["logging.googleapis.com/spanId"], line["request_id"], line)
        parents += check_parent(request["userAgent"], trace.removeprefix(prefix), line["logging.googleapis.com/trace_sampled"])
        severities.add(line["severity"])
        statuses.add(status)
    assert severities == {"INFO", "WARNING", "ERROR"} and {200, 400, 401, 404, 503} <= statuses, (severities, statuses)
    assert parents == 2 * len(PARENTS), parents


def check_trace(trace, span, request_id, line):
    assert re.fullmatch("[0-9a-f]{32}", trace) and re.fullmatch("[0-9a-f]{32}", request_id), line
    assert (trace, span) in {(TRACE, SPAN), (request_id, "")}, line


def check_parent(agent, trace, sampled=None):
    """Whether this is one of the requests with a traceparent; that its line has the trace, if it was one."""
    if not (found := re.fullmatch(r"parent-(\d+)", agent)):
        return False
    parent, is_one = PARENTS[int(found[1])]
    assert (trace == TRACE) == is_one, (parent, trace)
    if sampled is not None:
        assert sampled == (is_one and int(parent[53:55], 16) % 2 == 1), (parent, sampled)
    return True


def check_json(path):
    statuses, traces = set(), 0
    for line in lines_of(path):
        check_time(line["time"])
        check_trace(line["trace_id"], line["span_id"], line["request_id"], line)
        traces += line["trace_id"] == TRACE
        assert "?" not in line["path"] and type(line["status"]) is int and type(line["seconds"]) is float, line
        statuses.add(line["status"])
    assert {200, 400, 401, 404, 503} <= statuses, statuses
    assert traces == 2 * sum(is_one for _, is_one in PARENTS), traces


def check_watcher(path):
    told = list(lines_of(path))
    assert told and all(line["severity"] in {"INFO", "WARNING", "ERROR"} and line["message"] for line in told), told
    for line in told:
        check_time(line["time"])


if sys.argv[1] == "send":
    for request in requests(sys.argv[4]):
        send(int(sys.argv[2]), request, True)
        send(int(sys.argv[3]), request, False)
else:
    {"gcp": check_gcp, "json": check_json, "watcher": check_watcher}[sys.argv[1]](*sys.argv[2:])
