#!/usr/bin/env python3
"""Clients of the edge that curl cannot be; e2e.sh runs them against a running one.

    e2e-clients.py attacks HTTPS HTTP       what no well-meaning client sends, on both ports: a line for each rule, as e2e.sh's
    e2e-clients.py keep-alive HTTPS UNTIL   asks on connections that it keeps, until the file UNTIL is there; prints what failed
    e2e-clients.py names HTTPS KNOWN        whether KNOWN can be told from a name that does not exist, by the time of a 401
    e2e-clients.py slow HTTPS               a body of a byte a second to where the edge refuses it
    e2e-clients.py eager HTTPS              sends all of a body before it listens; the edge has answered long before
    e2e-clients.py hold HTTPS FROM COUNT    opens COUNT connections from the address FROM and says nothing

What it returns 0 if what is said above holds; 1 and what it saw if not.
"""

import base64
import http.client
import json
import os
import random
import re
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time

HOST = "127.0.0.1"


def tls_context():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def read_all(connection):
    """What comes until the other side closes, or a problem document is complete; what came so far if it is reset."""
    reply = b""
    try:
        while not reply.endswith(b'"}') and (piece := connection.recv(65536)):
            reply += piece
    except OSError:
        pass
    return reply


def send(port, tls, request):
    """Sends the bytes, and returns all of the reply. The edge closes the connection after it."""
    with socket.create_connection((HOST, port), timeout=20) as connection:
        if tls:
            connection = tls_context().wrap_socket(connection)
        try:
            connection.sendall(request)
        except OSError:
            pass  # It answers before it has read everything.
        return read_all(connection)


# --- attacks ----------------------------------------------------------------------------------------------------

END = b"Host: localhost\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST /multivac/data HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + END


def line(start, headers=b""):
    return start + b" HTTP/1.1\r\n" + headers + END


# Name, status, request.
MALFORMED = [
    ("a percent sign without digits", 400, line(b"GET /%zz")),
    ("a cut percent-encoding", 400, line(b"GET /zzz%4")),
    ("%00", 400, line(b"GET /%00")),
    ("/../..", 400, line(b"GET /../..")),
    ("/%2e%2e/", 400, line(b"GET /%2e%2e/")),
    ("a NUL in the address", 400, line(b"GET /\x00")),
    ("a space in the address", 400, line(b"GET /a b")),
    ("no slash before the address", 400, line(b"GET zzz")),
    ("no address", 400, line(b"GET ")),
    ("a scheme without a host", 400, line(b"GET http://")),
    ("OPTIONS *", 400, line(b"OPTIONS *")),
    ("a method in lower case", 400, line(b"get /")),
    ("a method with a sign", 400, line(b"G@T /")),
    ("HTTP/3.0", 505, b"GET / HTTP/3.0\r\n" + END),
    ("HTTP/2.0 without its preface", 505, b"GET / HTTP/2.0\r\n" + END),
    ("another protocol", 400, b"GET / HTTX/1.1\r\n" + END),
    ("a version that is no number", 400, b"GET / HTTP/1.1x\r\n" + END),
    ("a question of 20 kB", 414, line(b"GET /multivac?question=" + b"x" * 20_000)),
    ("a question of 100 kB", 414, line(b"GET /multivac?question=" + b"x" * 100_000)),
    ("a method of 70 kB", 414, line(b"A" * 70_000 + b" /")),
    ("a header of 20 kB", 431, line(b"GET /", b"X-Long: " + b"x" * 20_000 + b"\r\n")),
    ("a header of 100 kB", 431, line(b"GET /", b"X-Long: " + b"x" * 100_000 + b"\r\n")),
    ("5,000 headers", 431, line(b"GET /", b"X-Short: x\r\n" * 5_000)),
    ("no Host", 400, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
    ("two Hosts", 400, line(b"GET /", b"Host: other\r\n")),
    ("an empty Host", 400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a Host with a space", 400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a Host with a slash", 400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a space before a colon", 400, line(b"GET /", b"X-Space : x\r\n")),
    ("a header on two lines", 400, line(b"GET /", b"X-Folded: a\r\n b\r\n")),
    ("a NUL in a header", 400, line(b"GET /", b"X-Nul: \x00\r\n")),
    ("Content-Length and Transfer-Encoding", 400, line(b"POST /", b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")),
    ("two Content-Lengths", 400, line(b"POST /", b"Content-Length: 3\r\nContent-Length: 4\r\n")),
    ("a Content-Length below 0", 400, line(b"POST /", b"Content-Length: -1\r\n")),
    ("an unknown Transfer-Encoding", 501, line(b"POST /", b"Transfer-Encoding: xchunked\r\n")),
    ("a broken chunk", 400, CHUNKED + b"zz\r\n"),
    ("TRACE", 405, line(b"TRACE /")),
    ("no HTTP at all", 400, b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n"),
]


def problem_of(reply, status, head_only=False):
    """What is wrong with this reply as a problem document; empty if nothing is."""
    head, _, body = reply.partition(b"\r\n\r\n")
    fields = dict(field.lower().split(": ", 1) for field in head.decode("latin-1").split("\r\n")[1:])
    if not re.match(rf"HTTP/1\.1 {status} ", head.decode("latin-1")) or fields.get("content-type") != "application/problem+json":
        return repr(reply[:300])
    if head_only:
        return repr(body) if body else ""
    return problem_of_body(body, status)


def problem_of_body(body, status):
    try:
        problem = json.loads(body)
        assert list(problem) == ["type", "title", "status", "detail", "trace_id"], problem
        assert problem["status"] == status and problem["title"] != "Error" and problem["detail"], problem
        assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"]), problem
    except (ValueError, AssertionError) as error:
        return f"{error!r} {body[:300]!r}"
    return ""


# The same over HTTP/2, which curl frames: its arguments, and the status.
OVER_HTTP2 = [
    ("`:path` *", 400, ["--request-target", "*"]),
    ("OPTIONS *", 400, ["--request-target", "*", "--request", "OPTIONS"]),
    ("a percent sign without digits", 400, ["--request-target", "/%zz"]),
    ("/../..", 400, ["--request-target", "/../.."]),
    ("no slash before the address", 400, ["--request-target", "zzz"]),
    ("a method in lower case", 400, ["--request", "get"]),
    ("a question of 20 kB", 414, ["--request-target", "/multivac?question=" + "x" * 20_000]),
    ("a header of 30 kB", 431, ["--header", "X-Long: " + "x" * 30_000]),
    ("a Host with a slash", 400, ["--header", "Host: a/b"]),
]


def over_http2(port, status, arguments):
    reply = subprocess.run(
        ["curl", "--silent", "--insecure", "--ipv4", "--noproxy", "*", "--http2", "--max-time", "20", *arguments]
        + ["--write-out", "\n%{http_version} %{http_code} %{content_type}", f"https://localhost:{port}/"],
        capture_output=True, check=False,
    ).stdout
    body, _, end = reply.rpartition(b"\n")
    if end != b"2 %d application/problem+json" % status:
        return repr(reply[:300])
    return problem_of_body(body, status)


FFDHE8192, X25519 = 0x0104, 0x001D


def client_hello(group, share):
    """A ClientHello of TLS 1.3, as OpenSSL sends it when it is told to offer this group alone."""
    def block(size, content):
        return len(content).to_bytes(size, "big") + content

    extensions = b"".join(
        struct.pack(">H", number) + block(2, content)
        for number, content in [
            (0, block(2, b"\x00" + block(2, b"localhost"))),
            (10, block(2, struct.pack(">H", group))),
            (13, block(2, bytes.fromhex("040308040401050308050501060308060601"))),
            (43, block(1, b"\x03\x04")),
            (45, block(1, b"\x01")),
            (51, block(2, struct.pack(">H", group) + block(2, share))),
        ]
    )
    hello = b"\x03\x03" + bytes(range(32)) + block(1, b"") + block(2, bytes.fromhex("130213031301")) + block(1, b"\x00") + block(2, extensions)
    return b"\x16\x03\x01" + block(2, b"\x01" + block(3, hello))


HANDSHAKE, ALERT, HANDSHAKE_FAILURE = 22, 21, 40


def first_record(port, hello):
    """The type of the first record of the reply, and of an alert its reason."""
    with socket.create_connection((HOST, port), timeout=20) as connection:
        connection.sendall(hello)
        reply = b""
        while len(reply) < 7 and (piece := connection.recv(7 - len(reply))):
            reply += piece
    return reply[0], reply[6] if reply[0] == ALERT else None


def expensive_handshakes(port):
    """100 that would each take 130 ms of a core; not a single one is begun. A cheap one is."""
    share = (4).to_bytes(1024, "big")  # A valid one, and not worth a computation to the client.
    for _ in range(100):
        if (seen := first_record(port, client_hello(FFDHE8192, share))) != (ALERT, HANDSHAKE_FAILURE):
            return f"a record of {seen}"
    if (seen := first_record(port, client_hello(X25519, b"\x09" + bytes(31)))) != (HANDSHAKE, None):
        return f"X25519: a record of {seen}"
    return ""


def attacks(https, http):
    https, http = int(https), int(http)
    broken = False

    def rule(name, saw):
        nonlocal broken
        broken |= bool(saw)
        print(f"BROKEN  {name}\n        {saw}" if saw else f"ok      {name}", flush=True)

    rule("a handshake that would cost the edge 130 ms is refused", expensive_handshakes(https))
    for scheme, port in ("https", https), ("http", http):
        for name, status, request in MALFORMED:
            rule(f"{scheme}: {name} is a problem of {status}", problem_of(send(port, scheme == "https", request), status))
        head = send(port, scheme == "https", line(b"HEAD /%zz"))
        rule(f"{scheme}: HEAD of a problem has no body", problem_of(head, 400, head_only=True))
        rule(f"{scheme}: the error's own page is not there", problem_of(send(port, scheme == "https", line(b"GET /problem")), 404))
    for name, status, arguments in OVER_HTTP2:
        rule(f"HTTP/2: {name} is a problem of {status}", over_http2(https, status, arguments))
    plain = send(https, False, line(b"GET /"))
    rule("http to the port of https is a problem that says so", problem_of(plain, 400) or ("" if b"speaks https" in plain else repr(plain)))
    return "a rule is broken" if broken else ""


# --- others ------------------------------------------------------------------------------------------------------

def keep_alive(https, until):
    """Asks on kept connections, at once or after a while in which they are idle. Each request has to get its reply."""
    failed, asked, lock = [], 0, threading.Lock()

    def client(number):
        nonlocal asked
        connection = None
        while not os.path.exists(until):
            connection = connection or http.client.HTTPSConnection(HOST, int(https), context=tls_context(), timeout=20)
            try:
                connection.request("GET", "/zzz")
                reply = connection.getresponse()
                reply.read()
                if reply.will_close:
                    connection.close()
                with lock:
                    asked += 1
                    if reply.status != 200:
                        failed.append(str(reply.status))
            except (OSError, http.client.HTTPException) as error:
                connection = None
                with lock:
                    failed.append(repr(error))
            time.sleep((0.02, 0.05, 0.1, 0.3)[number % 4])

    clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    print(f"{asked} asked, {len(failed)} failed: {sorted(set(failed))}")
    return f"{len(failed)} failed" if failed or asked < 200 else ""


def names(https, known):
    """A wrong password of a name that exists takes no longer than that of one that does not, by the medians of 200 each."""
    connection = http.client.HTTPSConnection(HOST, int(https), context=tls_context(), timeout=20)
    took = {known: [], "nobody": []}
    for _ in range(200):
        for name in random.sample(sorted(took), 2):
            login = base64.b64encode(f"{name}:wrong".encode()).decode()
            started = time.perf_counter()
            connection.request("POST", "/multivac/data", headers={"Authorization": f"Basic {login}", "Content-Length": "0"})
            reply = connection.getresponse()
            reply.read()
            took[name].append(time.perf_counter() - started)
            if reply.status != 401:
                return f"status {reply.status}"
    known, unknown = (statistics.median(took[name]) * 1000 for name in (known, "nobody"))
    print(f"{known:.3f} ms, a name that does not exist {unknown:.3f} ms")
    return "" if known < unknown + 0.2 else "they can be told apart"


def slow(https):
    """The edge says 401 at once, and does not read on for ever."""
    with socket.create_connection((HOST, int(https)), timeout=60) as plain, tls_context().wrap_socket(plain) as connection:
        connection.sendall(line(b"POST /multivac/data", b"Content-Type: text/plain\r\nContent-Length: 1000000\r\n"))
        if not (head := connection.recv(4096)).startswith(b"HTTP/1.1 401 "):
            return repr(head)
        started = time.monotonic()
        try:
            while time.monotonic() - started < 60:
                connection.sendall(b"x")
                time.sleep(1)
        except OSError:
            return ""
    return "still reading after 60 s"


def eager(https):
    """The reply is there although the client has sent on: nothing is reset by what the edge has not read."""
    length, chunks = 64 << 10, 140
    chunk = b"%x\r\n%b\r\n" % (length, b"\n" * length)
    plain = b"\n" * length
    for head, status, piece in [
        (b"Transfer-Encoding: chunked\r\n", b"401", chunk),
        (b"Content-Length: %d\r\n" % (length * chunks), b"413", plain),
    ]:
        with socket.create_connection((HOST, int(https)), timeout=20) as tcp, tls_context().wrap_socket(tcp) as connection:
            connection.sendall(b"POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n" + head + b"\r\n")
            try:
                for _ in range(chunks):
                    connection.sendall(piece)
            except OSError as error:
                return f"{status}: sending failed: {error}"
            if not (reply := read_all(connection)).startswith(b"HTTP/1.1 " + status):
                return f"{status}: {reply[:200]!r}"
    return ""


def hold(https, address, count):
    """Those that are more than one address may have are closed, though none has said anything."""
    held = [socket.create_connection((HOST, int(https)), timeout=20, source_address=(address, 0)) for _ in range(int(count))]
    closed, deadline = 0, time.monotonic() + 2
    for connection in held:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            closed += connection.recv(1) == b""
        except ConnectionResetError:
            closed += 1
        except TimeoutError:
            pass
    print(f"{closed} of {count} were closed")
    return "" if 0 < closed < int(count) else "all or none"


COMMANDS = {"attacks": attacks, "keep-alive": keep_alive, "names": names, "slow": slow, "eager": eager, "hold": hold}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]) or 0)
