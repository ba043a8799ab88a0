"""What the rules of the console share: a browser, the api behind it, and what a person does with the page."""

import json
import os
import pathlib
import sys
import tempfile
import unittest

from playwright.sync_api import expect, sync_playwright

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent)]
from system import Api, Edge, TIMEOUT, request, wait_for  # noqa: E402

TEXT = "The entropy of the universe can be reversed by gathering all of the starlight."
STANDING = "How can the entropy of the universe be reversed?"
INSUFFICIENT = "INSUFFICIENT DATA FOR MEANINGFUL ANSWER."
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 320, "height": 640}
LOOKS = [(scheme, size) for scheme in ("light", "dark") for size in (WIDE, NARROW)]
expect.set_options(timeout=TIMEOUT * 1000)

# What a person with a screen reader, a keyboard or weak eyes could not use; WCAG 2.2 A and AA, and what axe-core calls best practice.
AXE = """async () => {
    const found = await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]});
    return found.violations.map(({id, help, nodes}) => `${id}: ${help}: ${nodes.map(({html, any}) =>
        html.slice(0, 160) + (any[0] ? " | " + any[0].message : "")).join("; ")}`);
}"""


class ConsoleCase(unittest.TestCase):
    """An api with one text in it, on a loopback address; a new page in a new browser's context for each rule."""

    flags = ()
    texts = (TEXT,)

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix="multivac-console.")
        cls.addClassCleanup(directory.cleanup)
        cls.directory = directory.name
        cls.api = Api(directory.name, *cls.flags)
        # In a lambda, since a rule starts it anew.
        cls.addClassCleanup(lambda: cls.api.stop())
        cls.ids = [cls.api.learned(text) for text in cls.texts]
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        cls.chromium = playwright.chromium.launch(
            executable_path=os.environ["MULTIVAC_TEST_CHROMIUM"],
            chromium_sandbox=os.getuid() != 0,
            # /dev/shm is small in containers.
            args=["--no-proxy-server", "--disable-dev-shm-usage"],
        )
        cls.addClassCleanup(cls.chromium.close)

    @classmethod
    def start_edge(cls, **settings):
        cls.edge = Edge(cls.directory, [f"127.0.0.1:{cls.api.port}"], **settings)
        cls.addClassCleanup(cls.edge.stop)

    def setUp(self):
        self.page = self.new_page()

    def new_page(self, scheme="dark", size=WIDE, **more):
        context = self.chromium.new_context(ignore_https_errors=True, color_scheme=scheme, viewport=size, locale="en-GB", **more)
        self.addCleanup(context.close)
        context.set_default_timeout(TIMEOUT * 1000)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if "Content Security Policy" in message.text else None)
        self.addCleanup(lambda: self.assertEqual(page.errors, []))
        return page

    def signed_in_page(self, scheme="dark", size=WIDE):
        """A browser whose person types the edge's password when it asks."""
        return self.new_page(scheme, size, http_credentials={"username": "susan", "password": self.edge.password})

    # --- what a person does ---------------------------------------------------------------------------------------------

    def answers(self, base):
        """The api fills its index first, and nginx leaves a replica alone for a second after it failed."""
        wait_for("the answer", lambda: request(base, "GET", "/multivac")[0] == 200)

    def open(self, base=None, view="", page=None):
        page = page or self.page
        self.answers(base or self.api.base)
        page.goto(f"{base or self.api.base}/{view}")
        return page

    def ask(self, question, page=None):
        (page or self.page).locator("#question").fill(question)
        (page or self.page).locator("#ask button").click()

    def sees(self, at, text, page=None):
        expect((page or self.page).locator(at)).to_contain_text(text)

    def shown(self, at, page=None):
        return (page or self.page).locator(at).text_content()

    def until(self, what, condition):
        """As `wait_for`, while the page's own requests go on: they pass through this process."""
        wait_for(what, lambda: (self.page.evaluate("1"), condition())[1])

    def idle(self):
        """Waits until the api has nothing left to learn."""
        self.until("learning", lambda: (stats := self.api.stats())["queued"] + stats["processing"] == 0)

    def assert_usable(self, page, what):
        """axe-core finds nothing, and nothing is wider than the window."""
        # Not as a tag in the page, which its policy forbids.
        page.evaluate(AXE_SOURCE)
        found = page.evaluate(AXE)
        self.assertEqual(found, [], what)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        self.assertLessEqual(wider, 0, f"{what}: the page is wider than its window")


AXE_SOURCE = pathlib.Path(os.environ["MULTIVAC_TEST_AXE"]).read_text()


def answer(question, text=None, confidence=0.8, evidence=(), **more):
    """A reply of the api, for what cannot be had from a real one."""
    status = "answered" if text else "insufficient_data"
    pieces = [{"id": f"0198{at:04}-0000-7000-8000-000000000000", "passage": passage, "score": confidence, "features": {}} for at, passage in enumerate(evidence)]
    body = {"question": question, "status": status, "answer": text, "confidence": confidence, "threshold": 0.5, "evidence": pieces, "learned": 7}
    return json.dumps({**body, **({} if text else {"missing": []}), **more})
