"""The stand-in's REST API, for the real gcloud (by `CLOUDSDK_API_ENDPOINT_OVERRIDES_…`) and for the question about rights."""

import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloud import COLLECTIONS, PROJECT, Refused, refuse

KINDS = {collection: kind for kind, collection in COLLECTIONS.items()}
TOKEN = "ya29.a-token-of-the-test"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, cloud):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cloud = cloud
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused("UNAUTHENTICATED", "Request had invalid authentication credentials.")
            self.answer(200, self.do(json.loads(body) if body else {}))
        except Refused as refused:
            details = []
            if refused.reason:
                details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refused.reason, "domain": "googleapis.com"}]
            error = {"code": refused.code, "message": refused.message, "status": refused.status, "details": details}
            self.answer(refused.code, {"error": error})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def do(self, body):
        cloud = self.server.cloud
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        if path == f"/v3/projects/{PROJECT}:testIamPermissions":
            return {"permissions": cloud.test_rights(body["permissions"])}
        matched = re.fullmatch(r"/v[123]/projects/([^/]+)/(\w+)(?:/(.+))?", path)
        if not matched or matched[2] not in KINDS:
            raise Refused("NOT_FOUND", f"no such method: {self.command} {path}")
        if matched[1] != PROJECT:
            raise Refused("PERMISSION_DENIED", f"Permission denied on resource project {matched[1]}.")
        kind = KINDS[matched[2]]
        name = matched[3] and (matched[3] if kind == "metrics" else f"projects/{PROJECT}/{matched[2]}/{matched[3]}")
        if self.command == "GET":
            return cloud.get(kind, name) if name else {matched[2]: cloud.list(kind)}
        if self.command == "POST" and not name:
            return cloud.create(kind, body)
        if self.command in ("PATCH", "PUT") and name:
            return cloud.update(kind, name, body)
        if self.command == "DELETE" and name:
            cloud.delete(kind, name, force="force=true" in url.query)
            return {}
        refuse(f"{self.command} {path}")
