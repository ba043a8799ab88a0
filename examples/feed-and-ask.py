#!/usr/bin/env python3
"""Feeds MultiVAC a text, waits until it is learned, asks, and takes the text back: feed-and-ask.py [URL]"""

import base64, json, os, pathlib, sys, time, urllib.error, urllib.parse, urllib.request, uuid

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:5000"


def call(method, path, body=None, **headers):
    """The JSON that comes back. After a 429 or 503 it tries again when the reply's Retry-After says."""
    headers = {"Accept": "application/json", "Content-Type": "application/json", **headers}
    if user := os.environ.get("MULTIVAC_USER"):
        login = user + ":" + pathlib.Path(os.environ["MULTIVAC_PASSWORD_FILE"]).read_text().strip()
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    for tries_left in reversed(range(6)):
        try:
            request = urllib.request.Request(URL + path, data, headers, method=method)
            return json.loads(urllib.request.urlopen(request, timeout=30).read() or "null")
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503) or not tries_left:
                raise
            time.sleep(min(float(error.headers.get("Retry-After", 1)), 60))


try:
    # The same key again is the same datum, so that it is safe to send this again.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    id = call("POST", "/multivac/data", {"data": "Penguins eat krill and small fish."}, **key)["id"]
    deadline = time.monotonic() + 60
    while (status := call("GET", f"/multivac/data/{id}")["status"]) == "queued" and time.monotonic() < deadline:
        time.sleep(0.1)
    if status != "processed":
        raise ValueError(f"the datum is {status}")
    answer = call("GET", "/multivac?" + urllib.parse.urlencode({"question": "What do penguins eat?"}))
    call("DELETE", f"/multivac/data/{id}")
    print(f"answer: {answer['answer']}\nevidence: {answer['evidence'][0]['id']}\nretracted: {id}")
except (OSError, LookupError, ValueError) as error:
    sys.exit(f"feed-and-ask: {URL}: {error}")
