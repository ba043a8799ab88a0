"""What the rules of the browser are tried on: multivac-api by itself, the edge in front of it, and a server of other sites."""

import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
API = os.environ["MULTIVAC_BUILT_API"]
NGINX = os.environ["MULTIVAC_TEST_NGINX"]
TIMEOUT = 20


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(what, condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT} s"
        time.sleep(0.02)


def request(base, method, path, headers=(), body=None, version=11):
    """(status, headers, body), of a client that is no browser and sends these headers alone."""
    url = urllib.parse.urlsplit(base)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=TIMEOUT, context=ssl._create_unverified_context())
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT)
    connection._http_vsn, connection._http_vsn_str = version, f"HTTP/1.{version - 10}"
    headers = [*headers] if any(name == "Host" for name, _ in headers) or version == 10 else [("Host", url.netloc), *headers]
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    if body is not None:
        body = body.encode()
        connection.putheader("Content-Type", "text/plain")
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    reply = connection.getresponse()
    found = reply.status, dict(reply.getheaders()), reply.read().decode()
    connection.close()
    return found


class Process:
    def __init__(self, command, log, **environment):
        self.log = pathlib.Path(log)
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | environment
            )

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        try:
            self.process.wait(35)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def replies(self, base):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return request(base, "GET", "/healthz")[0] == 200
        except OSError:
            return False


class Api:
    """Embedded, on a loopback address."""

    def __init__(self, directory, *flags):
        self.directory, self.flags, self.port = directory, flags, free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        line = [API, "--listen", f"127.0.0.1:{self.port}", "--data-dir", f"{self.directory}/data", *self.flags]
        self.process = Process(line, f"{self.directory}/api.log", REDIS_URL="", MONGO_URL="")
        wait_for("multivac-api", lambda: self.process.replies(self.base))

    def stop(self, how=signal.SIGTERM):
        self.process.stop(how)

    def stats(self):
        return json.loads(request(self.base, "GET", "/multivac/stats")[2])

    def refused(self):
        """How many requests got 403."""
        metrics = request(self.base, "GET", "/metrics")[2]
        return sum(map(int, re.findall(r'^multivac_http_request_seconds_count\{.*status="403"\} (\d+)$', metrics, re.MULTILINE)))

    def accepted(self):
        return self.stats()["accepted"]

    def learned(self, text):
        """Feeds a text, waits until it is learned, and gives its id."""
        status, _, body = request(self.base, "POST", "/multivac/data", body=text)
        assert status == 200, body
        id = json.loads(body)["id"]
        path = f"/multivac/data/{id}"
        wait_for("learning", lambda: json.loads(request(self.base, "GET", path)[2])["status"] == "processed")
        return id


class Edge:
    """nginx with the configuration of deploy/nginx: does what its image's entrypoint does."""

    START = r"""
        set -eu
        . deploy/nginx/docker-entrypoint.d/10-edge.envsh
        python3 - <<'RENDER'
import os, pathlib, re
for template in pathlib.Path("deploy/nginx/templates").glob("*.template"):
    text = re.sub(r"\$\{(MULTIVAC_EDGE_\w+)\}", lambda found: os.environ.get(found[1], found[0]), template.read_text())
    pathlib.Path(os.environ["MULTIVAC_EDGE_DIR"], template.stem).write_text(text)
RENDER
        # The watcher that it starts ends with nginx.
        deploy/nginx/docker-entrypoint.d/30-edge-watch.sh
        # Run by root, nginx's workers would run as `nobody`, who cannot read the secrets. The image does not run as root.
        as='daemon off;'
        [ "$(id -u)" != 0 ] || as="$as user root root;"
        exec nginx -c "$MULTIVAC_EDGE_DIR/nginx.conf" -g "$as"
    """

    def __init__(self, directory, apis, **environment):
        """In front of the addresses `apis`; `environment` is further settings."""
        secrets = f"{directory}/secrets"
        self.directory, self.apis, self.environment = directory, apis, environment
        self.port = free_port()
        self.base = f"https://localhost:{self.port}"
        setup = {"MULTIVAC_SECRETS": secrets, "MULTIVAC_ENV_FILE": f"{directory}/env"}
        made = subprocess.run(
            [ROOT / "scripts/setup.py", "--user", "susan"], env=os.environ | setup, check=True, capture_output=True, text=True
        )
        self.password = made.stdout.strip()
        self.start()

    def start(self):
        secrets = f"{self.directory}/secrets"
        self.process = Process(
            ["sh", "-c", self.START],
            f"{self.directory}/edge.log",
            PATH=f"{pathlib.Path(NGINX).parent}:{os.environ['PATH']}",
            MULTIVAC_EDGE_DIR=f"{self.directory}/edge",
            MULTIVAC_EDGE_LISTEN=f"127.0.0.1:{self.port}",
            MULTIVAC_EDGE_REDIRECT_LISTEN=f"127.0.0.1:{free_port()}",
            MULTIVAC_EDGE_PUBLIC_PORT=str(self.port),
            MULTIVAC_EDGE_API=",".join(self.apis),
            MULTIVAC_EDGE_CERTIFICATE=f"{secrets}/edge/tls.crt",
            MULTIVAC_EDGE_KEY=f"{secrets}/edge/tls.key",
            MULTIVAC_EDGE_HTPASSWD=f"{secrets}/edge/htpasswd",
            **{"MULTIVAC_EDGE_METRICS_LISTEN": "off", **self.environment},
        )
        wait_for("the edge", lambda: self.process.replies(self.base))

    def finds_the_api(self):
        wait_for("the edge", lambda: request(self.base, "GET", "/multivac/stats")[0] == 200)

    def count(self, status):
        """How many requests got this status."""
        return self.process.log.read_text().count(f'"status":{status},')

    def refused(self):
        return self.count(403)

    def stop(self):
        self.process.stop()


class Sites:
    """Serves other people's pages, under every name: an empty page, and a redirect (307) to what `?to=` says."""

    def __init__(self):
        class Site(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                to = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["to"][0]
                self.send_response(307)
                self.send_header("Location", to)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                page = b"<!doctype html><title>Kittens</title><body>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def at(self, name):
        return f"http://{name}:{self.port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
