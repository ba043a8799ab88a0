"""Tries with a real Chromium what web pages can do to MultiVAC; scripts/browser.sh runs it.

The attacks are those of a page that somebody has opened: forms of every kind, fetch, beacons, images, frames, redirects, and
DNS rebinding, against multivac-api by itself on a loopback address, and against the edge in a browser that has its password.
"""

import os
import pathlib
import sys
import tempfile
import unittest

from playwright.sync_api import sync_playwright

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent)]
import rules  # noqa: E402
from system import Api, Edge, Sites, TIMEOUT, request, wait_for  # noqa: E402

TEXT = "The entropy of the universe can be reversed by gathering all of the starlight."

# What a page of another site does; `url` is where data are fed. Each sends a request that a browser sends without asking first.
FORM = """({url, enctype, sandbox}) => {
    const html = `<form method="post" action="${url}" enctype="${enctype}"><textarea name="data">evil</textarea></form>`;
    const frame = document.createElement("iframe");
    if (sandbox) frame.sandbox = "allow-forms allow-scripts";
    frame.srcdoc = html + "<script>document.forms[0].submit()</" + "script>";
    document.body.append(frame);
}"""
TOP_FORM = """({url}) => {
    document.body.innerHTML = `<form method="post" action="${url}"><textarea name="data">evil</textarea></form>`;
    document.forms[0].submit();
}"""
FETCH = """({url, type, referrer}) => {
    fetch(url, {method: "POST", mode: "no-cors", credentials: "include", keepalive: true, referrerPolicy: referrer,
        headers: {"Content-Type": type}, body: type == "text/plain" ? "evil" : "data=evil"}).catch(() => {});
}"""
BEACON = """({url}) => navigator.sendBeacon(url, "data=evil")"""
ATTACKS = [
    ("a form", FORM, {"enctype": "application/x-www-form-urlencoded"}),
    ("a form with parts", FORM, {"enctype": "multipart/form-data"}),
    ("a form of plain text", FORM, {"enctype": "text/plain"}),
    ("a form without an origin", FORM, {"enctype": "application/x-www-form-urlencoded", "sandbox": True}),
    ("a form that takes the whole page", TOP_FORM, {}),
    ("fetch", FETCH, {"type": "text/plain"}),
    ("fetch without a referrer", FETCH, {"type": "application/x-www-form-urlencoded", "referrer": "no-referrer"}),
    ("a beacon", BEACON, {}),
]
# What a browser asks about first (a preflight), and then does not send.
ASKED = """async ({url, method, type}) => {
    try {
        const reply = await fetch(url, {method, credentials: "include", headers: type ? {"Content-Type": type} : {}, body: type && '{"data": "evil"}'});
        return "got " + reply.status;
    } catch { return "refused"; }
}"""
# The same as the server's own pages might do.
OWN = """async ({method, path}) => {
    const reply = await fetch(path, {method, headers: {"Content-Type": "application/json"}, body: method == "POST" ? '{"data": "evil"}' : undefined});
    return [reply.status, await reply.text()];
}"""


class BrowserRules(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix="multivac-browser.")
        cls.addClassCleanup(directory.cleanup)
        cls.api = Api(directory.name)
        # In a lambda, since a rule starts it anew.
        cls.addClassCleanup(lambda: cls.api.stop())
        cls.edge = Edge(directory.name, [f"127.0.0.1:{cls.api.port}"])
        cls.addClassCleanup(cls.edge.stop)
        cls.sites = Sites()
        cls.addClassCleanup(cls.sites.stop)
        cls.datum = cls.api.learned(TEXT)
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        cls.chromium = playwright.chromium.launch(
            executable_path=os.environ["MULTIVAC_TEST_CHROMIUM"],
            chromium_sandbox=os.getuid() != 0,
            # /dev/shm is small in containers.
            args=["--host-resolver-rules=MAP *.test 127.0.0.1", "--no-proxy-server", "--disable-dev-shm-usage"],
        )
        cls.addClassCleanup(cls.chromium.close)

    def setUp(self):
        # `bypass_csp`: the rules' own scripts stand for those of an attacker's page.
        # A problem document is no page, so where one takes the place of a page the browser would download it.
        self.context = self.chromium.new_context(
            ignore_https_errors=True, bypass_csp="rebound" in self.id(), accept_downloads=False
        )
        self.addCleanup(self.context.close)
        self.context.set_default_timeout(TIMEOUT * 1000)
        self.page = self.context.new_page()

    def log_in(self):
        """The browser has the password for the edge from now on."""
        with_password = self.edge.base.replace("//", f"//susan:{self.edge.password}@")
        reply = self.page.goto(f"{with_password}/docs")
        self.assertNotEqual(reply.status, 401)

    # --- pages of other sites ------------------------------------------------------------------------------------------

    def assert_attacks_fail(self, page, base, server):
        """What a `page` sends to `base` comes there, is refused by `server`, and changes nothing."""
        before, url = self.api.accepted(), f"{base}/multivac/data"
        for what, script, more in ATTACKS:
            for to in (url, f"{page}/?to={url}"):
                with self.subTest(f"{what} of {page} to {to}"):
                    tab = self.context.new_page()
                    tab.goto(page)
                    refused = server.refused()
                    tab.evaluate(script, {"url": to, **more})
                    # It is closed with its context: closing it while a download is refused can hang the browser.
                    wait_for("a refusal", lambda: server.refused() == refused + 1)
        for method, path, type in (
            ("POST", "/multivac/data", "application/json"),
            ("POST", "/multivac/data/bulk", "application/x-ndjson"),
            ("DELETE", f"/multivac/data/{self.datum}", None),
            ("GET", "/multivac/stats", None),
        ):
            with self.subTest(f"{method} {path} of {page} to {base}"):
                self.page.goto(page)
                self.assertEqual(self.page.evaluate(ASKED, {"url": base + path, "method": method, "type": type}), "refused")
        self.assertEqual(self.api.accepted(), before)
        self.assertEqual(self.api.stats()["retracted"], 0)

    def test_no_page_of_another_site_feeds_the_api_on_this_machine(self):
        self.assert_attacks_fail(self.sites.at("evil.test"), self.api.base, self.api)

    def test_no_page_of_another_port_of_this_machine_feeds_the_api(self):
        self.assert_attacks_fail(self.sites.at("localhost"), f"http://localhost:{self.api.port}", self.api)

    def test_no_page_of_another_site_feeds_through_the_edge_with_the_browsers_password(self):
        self.log_in()
        self.assert_attacks_fail(self.sites.at("evil.test"), self.edge.base, self.edge)

    def test_no_page_may_show_the_console_in_a_frame(self):
        for base in (self.api.base, self.edge.base):
            with self.subTest(base):
                self.page.goto(self.sites.at("evil.test"))
                with self.context.expect_event("requestfailed") as failed:
                    self.page.evaluate("url => { document.body.innerHTML = `<iframe src='${url}'></iframe>`; }", f"{base}/")
                self.assertEqual((failed.value.url, failed.value.failure), (f"{base}/", "net::ERR_BLOCKED_BY_RESPONSE"))

    # --- pages that turn into the server's own: DNS rebinding --------------------------------------------------------------

    def test_a_rebound_name_neither_reads_nor_writes_nor_retracts(self):
        before = self.api.accepted()
        # The page's own name means the api's address by now. Whatever it gets there, its script runs on with that origin.
        self.assertEqual(self.page.goto(f"http://rebind.test:{self.api.port}/").status, 403)
        for method, path in (
            ("GET", "/multivac"), ("GET", "/multivac/stats"), ("GET", f"/multivac/data/{self.datum}"), ("GET", "/metrics"),
            ("GET", "/healthz"), ("GET", "/openapi.json"), ("POST", "/multivac/data"), ("DELETE", f"/multivac/data/{self.datum}"),
        ):  # fmt: skip
            with self.subTest(f"{method} {path}"):
                status, body = self.page.evaluate(OWN, {"method": method, "path": path})
                self.assertEqual(status, 403)
                self.assertIn("not known by the name in Host", body)
        self.assertEqual(self.api.accepted(), before)
        self.assertEqual(self.api.stats()["retracted"], 0)

    def test_a_rebound_name_has_no_password_for_the_edge(self):
        self.log_in()
        before = self.api.stats()
        self.page.goto(f"https://rebind.test:{self.edge.port}/zzz")
        for method, path in (("POST", "/multivac/data"), ("DELETE", f"/multivac/data/{self.datum}")):
            refused = self.edge.count(401)
            # Not waited for, since the browser asks its user for a password now.
            self.page.evaluate(f"({OWN})({{method: '{method}', path: '{path}'}}), undefined")
            wait_for("a refusal", lambda: self.edge.count(401) == refused + 1)
        self.assertEqual(self.api.stats(), before)

    # --- clients that are no such browser ----------------------------------------------------------------------------------

    def test_hosts_that_a_loopback_listener_does_not_know_get_403_for_every_method(self):
        with tempfile.TemporaryDirectory() as directory:
            named = Api(directory, "--allowed-hosts", "ask.test,[2001:db8::1]")
            self.addCleanup(named.stop)
            for api, host, known in (
                (self.api, f"localhost:{self.api.port}", True), (self.api, "LOCALHOST", True), (self.api, "127.0.0.1", True),
                (self.api, "127.1.2.3:1", True), (self.api, "[::1]:5000", True), (self.api, "evil.test", False),
                (self.api, "localhost.evil.test", False), (self.api, "127.0.0.1.evil.test", False), (self.api, "192.0.2.1", False),
                (self.api, "ask.test", False), (self.api, "", False), (self.api, "localhost:x", False), (named, "ask.test:5000", True),
                (named, "[2001:db8::1]", True), (named, "localhost", True), (named, "evil.test", False), (named, "x.ask.test", False),
            ):  # fmt: skip
                for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
                    with self.subTest(host=host, method=method, named=api is named):
                        status = request(api.base, method, "/zzz", [("Host", host)])[0]
                        self.assertEqual(status == 403, not known, status)
            # HTTP/1.0 has no Host, and no browser speaks it.
            self.assertEqual(request(self.api.base, "GET", "/zzz", version=10)[0], 200)

    def test_writes_with_the_headers_of_another_site_get_403(self):
        for base, headers in (
            (self.api.base, []),
            (self.edge.base, [("Authorization", basic("susan", self.edge.password))]),
        ):
            for name, value, passes in (
                ("Accept", "*/*", True), ("Sec-Fetch-Site", "same-origin", True), ("Sec-Fetch-Site", "none", True),
                ("Sec-Fetch-Site", "cross-site", False), ("Sec-Fetch-Site", "same-site", False), ("Sec-Fetch-Site", "new", False),
                ("Origin", base, True), ("Origin", "null", False), ("Origin", "https://evil.test", False),
                ("Origin", base + "0", False), ("Origin", base.rpartition(":")[0], False), ("Origin", f"{base}.evil.test", False),
                ("Origin", base.replace("https", "HTTP") if "https" in base else base.replace("http", "https"), False),
            ):  # fmt: skip
                for method, path in (("POST", "/multivac/data"), ("DELETE", "/multivac/data/x"), ("PUT", "/zzz"), ("ERASE", "/zzz")):
                    with self.subTest(base=base, header=f"{name}: {value}", method=method):
                        body = "A robot may not injure a human being." if method == "POST" else None
                        status, _, said = request(base, method, path, [*headers, (name, value)], body)
                        expected = {"POST": 200, "DELETE": 404}.get(method, 405) if passes else 403
                        self.assertEqual(status, expected, said)
                        if not passes:
                            self.assertIn('"detail":"a browser sent this for a page of another site; nothing was changed"', said)
                for method in ("GET", "HEAD", "OPTIONS"):
                    self.assertLess(request(base, method, "/zzz", [*headers, (name, value)])[0], 300)

    def test_the_edge_refuses_another_sites_write_before_it_asks_for_a_password(self):
        status, headers, _ = request(self.edge.base, "POST", "/multivac/data", [("Sec-Fetch-Site", "cross-site")], "evil")
        self.assertEqual((status, headers.get("WWW-Authenticate"), headers["Content-Type"]), (403, None, "application/problem+json"))

    def test_a_preflight_permits_nothing(self):
        asked = [("Origin", "https://evil.test"), ("Access-Control-Request-Method", "DELETE"), ("Access-Control-Request-Headers", "x")]
        for base in (self.api.base, self.edge.base):
            for path in ("/multivac/data", f"/multivac/data/{self.datum}", "/multivac", "/nothing"):
                status, headers, _ = request(base, "OPTIONS", path, asked)
                self.assertFalse([name for name in headers if name.lower().startswith("access-control")], headers)


def basic(name, password):
    import base64

    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


if __name__ == "__main__":
    rules.run("browser")
