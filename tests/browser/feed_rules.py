"""Tries with a real Chromium what somebody who feeds does and sees at the console; scripts/browser.sh runs it."""

import json
import re
import time

from console import LOOKS, ConsoleCase, expect
from system import request
import rules

BULK = "**/multivac/data/bulk"


def file(name, text, type="text/plain"):
    return {"name": name, "mimeType": type, "buffer": text if isinstance(text, bytes) else text.encode()}


def lines(count, what="Datum"):
    return "".join(json.dumps({"data": f"{what} number {number} of many."}) + "\n" for number in range(count))


class FeedRules(ConsoleCase):
    flags = ("--max-datum-size", "64KiB")

    def feed_view(self, page=None, base=None):
        page = self.open(base, "#/feed", page)
        expect(page.get_by_role("heading", name="Feed", exact=True)).to_be_visible()
        return page

    def choose(self, *files, page=None):
        (page or self.page).set_input_files("#files", list(files))

    def latest(self, page=None):
        return (page or self.page).locator("#feedings > li").first

    def accepts(self, count, feeding):
        """How many data come to be accepted while `feeding` is done, once nothing moves any more."""
        before = self.api.accepted()
        feeding()
        self.until(f"{count} data", lambda: self.api.accepted() == before + count)
        self.idle()
        self.assertEqual(self.api.accepted(), before + count)

    # --- a text ------------------------------------------------------------------------------------------------------------

    def test_a_text_is_fed_and_followed_until_it_can_be_answered_with(self):
        self.feed_view()
        self.page.locator("#data").fill("Gregory Powell repaired robots on Mercury.")
        self.page.get_by_role("button", name="Feed", exact=True).click()
        self.sees("#fed", "MultiVAC updated!")
        expect(self.page.locator("#data")).to_have_value("")
        expect(self.latest()).to_contain_text("Learned: it can be answered with.")
        self.page.get_by_role("link", name="Ask", exact=True).click()
        self.ask("What did Gregory Powell repair?")
        self.sees("#answer", "robots on Mercury")

    def test_what_was_just_fed_can_be_taken_back_from_there(self):
        self.feed_view()
        self.page.locator("#data").fill("Mike Donovan was wrong.")
        self.page.keyboard.press("Control+Enter")
        expect(self.latest()).to_contain_text("Learned")
        self.latest().get_by_role("button", name="Take it back").click()
        self.latest().get_by_role("button", name="Take it back for good").click()
        expect(self.latest().locator(".state")).to_have_text("Taken back.")

    def test_nothing_is_not_fed(self):
        self.feed_view()
        self.page.locator("#data").fill("  \n ")
        self.page.get_by_role("button", name="Feed", exact=True).click()
        self.sees("#fed", "There is nothing to feed yet.")
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "data")

    def test_a_text_whose_reply_was_lost_is_fed_once(self):
        self.feed_view()

        def lose(route):
            route.fetch()
            route.abort()

        def twice():
            self.page.route("**/multivac/data", lose)
            self.page.locator("#data").fill("Once upon a time.")
            self.page.locator("#feeding").click()
            self.sees("#fed", "MultiVAC does not answer.")
            self.page.unroute("**/multivac/data")
            self.page.locator("#feeding").click()
            self.sees("#fed", "MultiVAC updated!")

        self.accepts(1, twice)

    def test_what_was_typed_while_a_text_was_fed_stays(self):
        self.feed_view()
        held = []
        self.page.route("**/multivac/data", lambda route: held.append(route))
        self.page.locator("#data").fill("First.")
        self.page.locator("#feeding").click()
        self.until("the text", lambda: held)
        self.page.locator("#data").fill("Second.")
        self.assertTrue(self.leaving_is_asked_about())
        held[0].continue_()
        self.sees("#fed", "MultiVAC updated!")
        self.assertFalse(self.leaving_is_asked_about())
        expect(self.page.locator("#data")).to_have_value("Second.")

    def test_while_the_api_is_down_the_text_stays_and_is_fed_afterwards(self):
        self.feed_view()
        self.page.locator("#data").fill("Nobody is there.")
        self.api.stop()
        try:
            self.page.locator("#feeding").click()
            self.sees("#fed", "MultiVAC does not answer.")
            expect(self.page.locator("#data")).to_have_value("Nobody is there.")
        finally:
            self.api.start()
        self.accepts(1, lambda: self.page.locator("#feeding").click())
        self.sees("#fed", "MultiVAC updated!")

    def test_a_full_queue_says_when_to_come_back(self):
        self.feed_view()
        self.page.route("**/multivac/data", lambda route: route.fulfill(status=503, json={"detail": "the queue is full; nothing was accepted"}, headers={"Retry-After": "7"}))
        self.page.locator("#data").fill("Too much.")
        self.page.locator("#feeding").click()
        self.sees("#fed", "the queue is full; nothing was accepted Try again in 7 s.")
        expect(self.page.locator("#data")).to_have_value("Too much.")

    # --- files --------------------------------------------------------------------------------------------------------------

    def test_files_of_every_kind_are_fed(self):
        self.feed_view()
        files = [
            file("a.txt", "The Rhine rises in the Alps."), file("b.md", "# Danube\n\nThe Danube rises in the Black Forest.", "text/markdown"),
            file("c.html", "<!doctype html><p>The Volga rises in the Valdai Hills.</p>", "text/html"),
            file("d.csv", "river,length\nElbe,1094 km\nOder,840 km\n", "text/csv"), file("e.ndjson", '{"data": "The Po rises in Piedmont."}\r\n\r\n{"data": "The Ebro rises in Cantabria."}'),
        ]  # fmt: skip
        self.accepts(6, lambda: self.choose(*files))
        expect(self.latest()).to_contain_text("5 files")
        expect(self.latest()).to_contain_text("6 data accepted, and learned.")
        for question, said in (("Where does the Volga rise?", "Valdai"), ("Where does the Ebro rise?", "Cantabria"), ("Where does the Danube rise?", "Black Forest")):
            self.assertIn(said, request(self.api.base, "GET", f"/multivac?question={question.replace(' ', '+')}")[2])

    def test_what_cannot_be_fed_is_named_with_its_line_and_the_rest_is_fed(self):
        self.feed_view()
        good, long = json.dumps({"data": "Good."}), json.dumps({"data": "x" * 65537})
        text = "\n".join([good, "nope", '{"data": 1}', '{"data": " "}', long, "{" + "y" * 500_000, json.dumps({"data": "Last."})])
        self.accepts(2, lambda: self.choose(file("mixed.ndjson", text), file("empty.txt", " \n"), file("photo.png", b"\x89PNG\x00\x01"), file("latin.txt", b"caf\xe9")))
        rejected = self.latest().locator(".rejected")
        expect(rejected.locator("summary")).to_have_text("8 rejected")
        rejected.locator("summary").click()
        for words in (
            "mixed.ndjson, line 2: this is no JSON", 'mixed.ndjson, line 3: expected {"data": "…"}', "mixed.ndjson, line 4: it is empty",
            "mixed.ndjson, line 5: longer than 64 KiB", "mixed.ndjson, line 6: longer than 64 KiB", "empty.txt: it is empty",
            "photo.png: this is", "latin.txt: this is not text in UTF-8",
        ):  # fmt: skip
            expect(rejected).to_contain_text(words)

    def test_a_text_over_the_limit_is_fed_in_parts_cut_at_paragraphs_and_says_so(self):
        self.feed_view()
        paragraphs = [f"Paragraph {number}: " + "é word " * 1000 + "." for number in range(30)]
        held = []
        self.page.on("request", lambda request: held.append(request.post_data) if request.url.endswith("bulk") else None)
        self.choose(file("long.txt", "\n\n".join(paragraphs)))
        expect(self.latest()).to_contain_text(re.compile(r"Over 64 KiB, so fed in parts, cut at paragraphs: long.txt in \d+ parts"))
        parts = [json.loads(line)["data"] for body in held for line in body.splitlines()]
        self.assertEqual("".join(parts), "\n\n".join(paragraphs))
        self.assertTrue(all(part.startswith("Paragraph ") and len(part.encode()) <= 65536 for part in parts), [part[:20] for part in parts])
        self.assertLess(len(parts), 6)

    def test_each_part_of_a_table_has_its_head_line(self):
        self.feed_view()
        rows = [f"river {number},{'é' * 100}\n" for number in range(1000)]
        held = []
        self.page.on("request", lambda request: held.append(request.post_data) if request.url.endswith("bulk") else None)
        self.choose(file("rivers.CSV", "".join(["name,length\n", *rows])))
        expect(self.latest()).to_contain_text(re.compile(r"rivers.CSV in \d parts"))
        expect(self.latest()).to_contain_text("accepted")
        parts = [json.loads(line)["data"] for body in held for line in body.splitlines()]
        self.assertTrue(all(part.startswith("name,length\n") and len(part.encode()) <= 65536 for part in parts), [part[:20] for part in parts])
        self.assertEqual("".join(part.removeprefix("name,length\n") for part in parts), "".join(rows))
        self.assertLess(len(parts), 5)

    def test_a_pasted_text_over_the_limit_is_fed_in_parts_too(self):
        self.feed_view()
        self.page.locator("#data").fill("\n\n".join("word " * 4000 for _ in range(5)))
        self.accepts(2, lambda: self.page.locator("#feeding").click())
        expect(self.latest()).to_contain_text("2 data accepted, and learned.")

    def test_a_pasted_text_over_the_limit_is_fed_once_however_often_one_clicks(self):
        self.feed_view()
        held = []
        self.page.route(BULK, lambda route: held.append(route))
        self.page.locator("#data").fill("\n\n".join("click " * 4000 for _ in range(5)))
        self.page.locator("#feeding").dblclick(force=True)
        self.until("the request", lambda: held)
        expect(self.page.locator("#feeding")).to_be_disabled()
        expect(self.page.locator("#feedings > li")).to_have_count(1)
        self.assertTrue(self.leaving_is_asked_about())
        # Cancelled, it is sent again as the same data.
        key = held[0].request.headers["idempotency-key"]
        self.latest().get_by_role("button", name="Cancel").click()
        expect(self.page.locator("#feeding")).to_be_enabled()
        self.assertFalse(self.leaving_is_asked_about())
        self.page.unroute(BULK)
        with self.page.expect_request(BULK) as again:
            self.accepts(3, lambda: self.page.locator("#feeding").click())
        self.assertEqual(again.value.headers["idempotency-key"], key)
        expect(self.page.locator("#data")).to_have_value("")

    def leaving_is_asked_about(self):
        return self.page.evaluate("!window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")

    def test_a_large_file_goes_in_bounded_requests_with_a_bar_and_a_rate(self):
        self.feed_view()
        sizes, held = [], []
        self.page.on("request", lambda request: sizes.append((request.post_data.count("\n"), len(request.post_data), request.headers.get("idempotency-key"))) if request.url.endswith("bulk") else None)

        self.page.route(BULK, lambda route: held.append(route) if len(sizes) == 2 else route.continue_())

        def feed():
            self.choose(file("many.ndjson", lines(1300)))
            self.until("the second request", lambda: held)
            expect(self.latest().get_by_role("progressbar", name="Feeding many.ndjson")).to_be_visible()
            self.assertIn("500 data accepted", self.latest().text_content())
            held[0].continue_()

        self.page.evaluate("""() => {
            window.heard = [];
            const spoken = document.getElementById("feed-spoken");
            new MutationObserver(() => heard.push(spoken.textContent)).observe(spoken, {childList: true});
        }""")
        self.accepts(1300, feed)
        expect(self.latest()).to_contain_text(re.compile(r"1,300 data accepted.*(learned|answered)"))
        expect(self.latest()).to_contain_text("data/s")
        self.assertEqual([count for count, _, _ in sizes], [500, 500, 300])
        self.assertEqual(len({key for _, _, key in sizes}), 3)
        expect(self.latest().locator("progress")).to_be_hidden()
        # A screen reader hears how it ended, and not each step.
        self.sees("#feed-spoken", "many.ndjson: 1,300 data accepted")
        self.assertEqual(len(self.page.evaluate("heard")), 1)

    def test_learned_is_said_only_of_what_has_been_asked_for_after_it_was_accepted(self):
        self.feed_view()
        # What the events have told last, nothing left to learn, is not of these data.
        expect(self.page.locator("#stats")).to_contain_text("accepted")
        asked, waiting = [], {"queued": 13, "processing": 0, "dead": 0}

        def stats(route):
            asked.append(1)
            route.fulfill(json={**self.api.stats(), **waiting})

        self.page.route("**/multivac/stats", stats)
        self.page.route("**/multivac/data/*-*", lambda route: route.fulfill(json={"status": "queued"}))
        self.choose(file("thirteen.ndjson", lines(13, "Thirteen")))
        expect(self.latest()).to_contain_text("13 data accepted; on their way.")
        self.until("a second look", lambda: len(asked) > 1)
        expect(self.latest()).to_contain_text("13 data accepted; on their way.")
        waiting["queued"] = 0
        expect(self.latest()).to_contain_text("13 data accepted, and learned.")

    def test_while_others_keep_the_queue_filled_it_ends_with_the_last_datum(self):
        busy = {**self.api.stats(), "queued": 100, "processing": 0}
        self.page.route("**/multivac/stats", lambda route: route.fulfill(json=busy))
        self.page.route("**/multivac/events", lambda route: route.fulfill(content_type="text/event-stream", body=f"event: stats\ndata: {json.dumps(busy)}\n\n"))
        self.feed_view()
        self.choose(file("busy.ndjson", lines(150, "Busy")))
        expect(self.latest()).to_contain_text("150 data accepted; the last of them can be answered with.")

    def test_many_files_go_together(self):
        self.feed_view()
        bulks = []
        self.page.on("request", lambda request: bulks.append(1) if request.url.endswith("bulk") else None)
        self.accepts(60, lambda: self.choose(*(file(f"{number}.txt", f"File number {number}.") for number in range(60))))
        self.assertEqual(len(bulks), 1)

    def test_a_request_whose_reply_was_lost_feeds_nothing_twice(self):
        self.feed_view()
        lost = []

        def lose_one(route):
            if not lost:
                lost.append(1)
                route.fetch()
                route.abort("connectionreset")
            else:
                route.continue_()

        self.page.route(BULK, lose_one)
        self.accepts(700, lambda: self.choose(file("lost.ndjson", lines(700, "Lost"))))
        expect(self.latest()).to_contain_text("700 data accepted")

    def test_a_full_queue_is_waited_for_as_long_as_it_said(self):
        self.feed_view()
        tries = []

        def full(route):
            tries.append(time.monotonic())
            if len(tries) == 1:
                route.fulfill(status=503, json={"detail": "the queue is full; nothing was accepted"}, headers={"Retry-After": "2"})
            elif len(tries) == 2:
                # In part: some lines came in before it was full.
                first = json.loads(route.fetch().text())
                route.fulfill(json={"accepted": 1, "ids": first["ids"][:1], "rejected": [{"line": 2, "detail": "the queue is full; nothing was accepted", "retry_after": 3}], "next_line": 3})
            else:
                route.continue_()

        self.page.route(BULK, full)
        self.accepts(3, lambda: self.choose(file("three.ndjson", lines(3, "Three"))))
        expect(self.latest()).to_contain_text("3 data accepted, and learned.")
        self.assertEqual(len(tries), 3)
        self.assertGreaterEqual(tries[1] - tries[0], 1.99)
        self.assertGreaterEqual(tries[2] - tries[1], 2.99)

    def test_it_can_be_cancelled_while_it_waits_and_says_what_was_accepted(self):
        self.feed_view()
        passed = []

        def one(route):
            if passed:
                route.fulfill(status=503, json={"detail": "the queue is full; nothing was accepted"}, headers={"Retry-After": "60"})
            else:
                passed.append(1)
                route.continue_()

        self.page.route(BULK, one)
        self.choose(file("cancelled.ndjson", lines(900, "Cancelled")))
        expect(self.latest()).to_contain_text(re.compile(r"the queue is full; nothing was accepted\. Going on in (6\d|7[0-5]) s; 500 data accepted so far\.", re.IGNORECASE))
        self.latest().get_by_role("button", name="Cancel").click()
        expect(self.latest()).to_contain_text("Cancelled. 500 data accepted before that")
        self.assertEqual(self.page.evaluate("document.activeElement.textContent"), "cancelled.ndjson")
        expect(self.latest().get_by_role("button")).to_have_count(0)

    def test_without_a_password_it_waits_for_somebody_to_sign_in_and_goes_on(self):
        self.feed_view()
        refused = []

        def refuse(route):
            if refused:
                route.continue_()
            else:
                refused.append(1)
                route.fulfill(status=401, json={"detail": "this needs a user name and a password"})

        self.page.route(BULK, refuse)
        self.choose(file("refused.ndjson", lines(2, "Refused")))
        expect(self.latest()).to_contain_text("sign in, then try again")
        self.accepts(2, lambda: self.latest().get_by_role("button", name="Go on").click())
        expect(self.latest()).to_contain_text("2 data accepted, and learned.")

    def test_files_and_folders_are_dropped_anywhere(self):
        self.open()
        before = self.api.accepted()
        self.page.evaluate("""() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["Dropped by hand."], "dropped.txt"));
            for (const type of ["dragenter", "dragover"]) document.body.dispatchEvent(new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""")
        expect(self.page.locator("body")).to_have_class("dropping")
        self.page.evaluate("""() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["Dropped by hand."], "dropped.txt"));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""")
        expect(self.latest()).to_contain_text("Learned: it can be answered with.")
        expect(self.page.locator("#view-feed")).to_be_visible()
        self.until("the file", lambda: self.api.accepted() == before + 1)

    def test_what_cannot_be_read_in_a_dropped_folder_is_named_and_the_rest_is_fed(self):
        self.feed_view()
        before = self.api.accepted()
        # A folder of a disk that answers late, and not for each file.
        self.page.evaluate("""() => {
            const file = (name, read) => ({isFile: true, name, fullPath: `/folder/${name}`, file: read});
            const broken = file("broken.txt", (_, fail) => fail(new DOMException("no permission", "NotReadableError")));
            const locked = {name: "locked", fullPath: "/folder/locked", createReader: () => ({readEntries: (_, fail) => fail(new DOMException("not yours", "SecurityError"))})};
            const lists = [[broken, locked, file("good.txt", found => found(new File(["Read from a slow disk."], "good.txt")))], []];
            const folder = {name: "folder", fullPath: "/folder", createReader: () => ({readEntries: found => { window.go = () => found(lists.shift()); if (lists.length < 2) go(); }})};
            DataTransferItem.prototype.webkitGetAsEntry = () => folder;
            const transfer = new DataTransfer();
            transfer.items.add(new File([""], "folder"));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""")
        expect(self.latest()).to_contain_text("Looking for files …")
        expect(self.latest().get_by_role("button", name="Cancel")).to_be_visible()
        self.assertTrue(self.leaving_is_asked_about())
        self.page.evaluate("go()")
        expect(self.latest()).to_contain_text("Learned: it can be answered with.")
        self.assertEqual(self.api.accepted(), before + 1)
        rejected = self.latest().locator(".rejected")
        expect(rejected.locator("summary")).to_have_text("2 rejected")
        rejected.locator("summary").click()
        expect(rejected).to_contain_text("folder/broken.txt: it cannot be read: no permission")
        expect(rejected).to_contain_text("folder/locked: it cannot be read: not yours")

    def test_a_folder_is_chosen_with_all_that_is_in_it(self):
        import pathlib

        folder = pathlib.Path(self.directory) / "folder"
        (folder / "inner").mkdir(parents=True)
        (folder / "one.txt").write_text("In the folder.")
        (folder / "inner" / "two.md").write_text("In the inner folder.")
        (folder / "inner" / "bad.ndjson").write_text("nope\n")
        self.feed_view()
        self.accepts(2, lambda: self.page.set_input_files("#folder", str(folder)))
        self.latest().locator("summary").click()
        expect(self.latest()).to_contain_text("folder/inner/bad.ndjson, line 1: this is no JSON")

    # --- for everybody -------------------------------------------------------------------------------------------------------

    def test_every_state_can_be_used_by_everybody_in_light_and_dark_wide_and_narrow(self):
        for scheme, size in LOOKS:
            page = self.new_page(scheme, size)
            self.feed_view(page)
            with self.subTest(scheme=scheme, width=size["width"]):
                self.assert_usable(page, "empty")
                page.locator("#data").fill("A text that can be taken back.")
                page.locator("#feeding").click()
                expect(self.latest(page)).to_contain_text("Learned")
                self.choose(file("a-very-long-name-" * 8 + ".ndjson", "nope\n" * 3 + lines(2)), page=page)
                expect(self.latest(page)).to_contain_text("2 data accepted, and learned.")
                self.latest(page).locator("summary").click()
                self.assert_usable(page, "fed")
                page.route(BULK, lambda route: route.fulfill(status=503, json={"detail": "the queue is full"}, headers={"Retry-After": "60"}))
                self.choose(file("waiting.ndjson", lines(2)), page=page)
                expect(self.latest(page)).to_contain_text("Going on in")
                self.assert_usable(page, "waiting")
                self.latest(page).get_by_role("button", name="Cancel").click()


if __name__ == "__main__":
    rules.run("feed")
