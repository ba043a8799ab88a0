"""Tries /docs with a real Chromium: the OpenAPI document as a page, and requests to this very server; scripts/browser.sh runs it."""

import json
import pathlib
import subprocess
import sys
import urllib.parse

from playwright.sync_api import expect

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent)]
import rules  # noqa: E402
from console import LOOKS, STANDING, TEXT, ConsoleCase  # noqa: E402
from system import request  # noqa: E402

METHODS = {"get", "post", "put", "patch", "delete", "head", "options"}
UNKNOWN = "01a2070d-70f8-71de-8994-146c5af941d2"


class DocsRules(ConsoleCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_edge()
        cls.document = json.loads(request(cls.api.base, "GET", "/openapi.json")[2])

    def docs(self, operation="", page=None, base=None):
        """The page, with this operation open."""
        page = page or self.page
        page.asked = []
        page.on("request", lambda asked: page.asked.append(asked.url))
        page.goto(f"{base or self.api.base}/docs#{operation}")
        expect(page.locator("#about")).to_contain_text("Version")
        return page.locator(f"details#{operation}") if operation else page

    def send(self, operation):
        operation.get_by_role("button", name="Send").click()
        return operation.get_by_role("status")

    def body(self, operation):
        return operation.get_by_role("region", name="Body", exact=True)

    def test_every_operation_of_the_document_is_listed_and_can_be_tried(self):
        page = self.docs()
        described = {
            (method.upper(), path, operation["operationId"])
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
            if method in METHODS
        }
        listed = page.evaluate(
            """() => [...document.querySelectorAll("main > details:has(.method)")].map((details) =>
                [details.querySelector(".method").textContent, details.querySelector("code").textContent, details.id])"""
        )
        self.assertEqual({tuple(one) for one in listed}, described)
        self.assertEqual(len(listed), len(described))
        for method, path, id in described:
            operation = page.locator(f"details#{id}")
            operation.locator("summary").click()
            expect(operation.get_by_role("button", name="Send"), f"{method} {path}").to_be_visible()
            parameters = self.document["paths"][path][method.lower()].get("parameters", [])
            self.assertEqual(operation.locator("form input").count(), len(parameters), f"{method} {path}")
            statuses = set(self.document["paths"][path][method.lower()]["responses"])
            self.assertEqual(set(operation.locator("dt").all_text_contents()), statuses, f"{method} {path}")
        for name in self.document["components"]["schemas"]:
            self.assertEqual(page.locator(f"details#schema-{name}").count(), 1, name)

    def test_a_question_is_asked_in_either_form(self):
        operation = self.docs("ask")
        status = self.send(operation)
        expect(status).to_contain_text("200 OK, complete")
        expect(self.body(operation)).to_have_text(TEXT)
        operation.get_by_label("question (query)").fill(STANDING)
        operation.get_by_label("Reply as (Accept)").select_option("application/json")
        expect(self.send(operation)).to_contain_text("200 OK, complete")
        expect(self.body(operation)).to_contain_text(f'"answer": "{TEXT}"')
        expect(operation.get_by_role("region", name="Headers")).to_contain_text("etag: ")
        expect(operation.get_by_role("region", name="The same by curl")).to_contain_text("-H 'Accept: application/json'")
        etag = next(line for line in operation.get_by_role("region", name="Headers").text_content().splitlines() if line.startswith("etag: "))
        operation.get_by_label("If-None-Match (header)").fill(etag.removeprefix("etag: "))
        expect(self.send(operation)).to_contain_text("304")

    def test_data_are_fed_in_every_form_once_for_each_key_and_retracted(self):
        for at, form in enumerate(["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]):
            with self.subTest(form):
                before = self.api.accepted()
                operation = self.docs("feed")
                operation.get_by_label("Body as (Content-Type)").select_option(form)
                text = f"@ Sheep number {at} = it's counted & sleeps; 100 % <b>wool</b>.\nEnd."
                field = operation.locator("textarea")
                field.fill(json.dumps({"data": text}) if form == "application/json" else text)
                operation.get_by_label("Idempotency-Key (header)").fill(f"docs {form}")
                ids = []
                for _ in range(2):
                    expect(self.send(operation)).to_contain_text("200 OK, complete")
                    ids.append(json.loads(self.body(operation).text_content())["id"])
                self.assertEqual(ids, [ids[0]] * 2)
                self.assertEqual(self.api.accepted(), before + 1)
                self.idle()
                # What it says of curl is what it did: a text that begins with @ is no file's name.
                curl = operation.get_by_role("region", name="curl").text_content()
                reply = subprocess.run(["bash", "-c", curl], capture_output=True, timeout=30, check=True).stdout
                # In a multipart form a browser ends lines with CR LF, and curl with LF: another datum under this key.
                if form != "multipart/form-data":
                    self.assertEqual(json.loads(reply)["id"], ids[0], curl)
                operation = self.docs("retract")
                operation.get_by_label("id (path, required)").fill(ids[0])
                expect(self.send(operation)).to_contain_text("204 No Content, complete")
                operation = self.docs("status")
                operation.get_by_label("id (path, required)").fill(ids[0])
                expect(self.send(operation)).to_contain_text("200 OK, complete")
                expect(self.body(operation)).to_contain_text('"status": "retracted"')

    def test_events_are_shown_as_they_come_until_they_are_stopped(self):
        operation = self.docs("events")
        operation.get_by_label("question (query)").fill("What do penguins eat?")
        expect(self.send(operation)).to_contain_text("200 OK, after")
        expect(self.body(operation)).to_contain_text("event: answer")
        id = self.api.learned("Penguins eat krill and small fish.")
        expect(self.body(operation)).to_contain_text(f'"because":{{"id":"{id}","kind":"learned"}}')
        operation.get_by_role("button", name="Stop").click()
        expect(operation.get_by_role("status")).to_contain_text("200 OK, stopped after")
        expect(operation.get_by_role("button", name="Send")).to_be_focused()
        operation = self.docs("system")
        operation.get_by_label("Reply as (Accept)").select_option("text/event-stream")
        self.send(operation)
        expect(self.body(operation)).to_contain_text("event: system")

    def test_what_is_refused_or_missing_is_shown_as_such(self):
        operation = self.docs("deadLetter")
        # What is required is asked for before anything is sent.
        self.page.asked.clear()
        operation.get_by_role("button", name="Send").click()
        self.assertEqual(self.page.asked, [])
        operation.get_by_label("id (path, required)").fill(f"../data/{UNKNOWN}?x#y")
        expect(self.send(operation)).to_contain_text("404 Not Found, complete")
        self.assertEqual(self.page.asked[-1], f"{self.api.base}/multivac/dead/..%2Fdata%2F{UNKNOWN}%3Fx%23y")
        expect(self.body(operation)).to_contain_text('"title": "Not Found"')
        self.api.stop()
        try:
            expect(self.send(operation)).to_contain_text("no reply: ")
        finally:
            self.api.start()
        expect(self.send(operation)).to_contain_text("404 Not Found, complete")

    def test_what_was_fed_is_shown_and_not_run(self):
        text = '<img src="/nothing" onerror="window.evil = 1"><script>window.evil = 1</script> is what Eve wrote.'
        id = self.api.learned(text)
        operation = self.docs("ask")
        operation.get_by_label("question (query)").fill("What is it that Eve wrote?")
        operation.get_by_label("Reply as (Accept)").select_option("application/json")
        expect(self.send(operation)).to_contain_text("200 OK, complete")
        expect(self.body(operation)).to_contain_text(id)
        self.assertEqual(self.page.evaluate("[document.images.length, typeof window.evil]"), [0, "undefined"])

    def test_it_needs_no_other_host_and_its_policy_lets_nothing_else_run(self):
        self.docs("feed")
        self.assertTrue(all(urllib.parse.urlsplit(url).netloc == f"127.0.0.1:{self.api.port}" for url in self.page.asked), self.page.asked)
        self.assertEqual(len(self.page.asked), 2, self.page.asked)
        status, headers, _ = request(self.api.base, "GET", "/docs")
        policy = next(value for name, value in headers.items() if name.lower() == "content-security-policy")
        self.assertEqual(status, 200)
        self.assertNotIn("unsafe", policy)
        self.assertIn("connect-src 'self'", policy)

    def test_a_keyboard_is_enough(self):
        page = self.docs()
        page.locator("#operations").focus()
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.parentElement.id") == "ask":
                break
        page.keyboard.press("Enter")
        operation = page.locator("details#ask")
        # What is in it is made when it is opened, which the page is told of a moment later.
        expect(operation.get_by_role("button", name="Send")).to_be_visible()
        for _ in range(3):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "ask-question":
                break
        page.keyboard.type(STANDING)
        page.keyboard.press("Enter")
        expect(self.body(operation)).to_have_text(TEXT)

    def test_everybody_can_use_it(self):
        for scheme, size in LOOKS:
            with self.subTest(f"{scheme}, {size['width']} wide"):
                page = self.new_page(scheme, size)
                operation = self.docs("feed", page)
                self.send(operation)
                expect(self.body(operation)).to_contain_text('"id"')
                for id in ("ask", "retract", "dead", "schema-Answer"):
                    page.locator(f"details#{id} summary").click()
                self.assert_usable(page, f"{scheme}, {size}")

    def test_through_the_edge_it_asks_for_the_password_and_then_works(self):
        self.edge.finds_the_api()
        for path in ("/docs", "//docs", "/%64ocs", "/docs/"):
            self.assertEqual(request(self.edge.base, "GET", path)[0], 401, path)
        page = self.signed_in_page()
        operation = self.docs("feed", page, self.edge.base)
        before = self.api.accepted()
        expect(self.send(operation)).to_contain_text("200")
        expect(self.body(operation)).to_contain_text("MultiVAC updated!")
        self.assertEqual(self.api.accepted(), before + 1)


if __name__ == "__main__":
    rules.run("browser")
