"""Tries with a real Chromium what an operator sees at the console, and how it takes failures; scripts/browser.sh runs it."""

import http.server
import json
import re
import signal
import sqlite3
import threading
import time
import uuid

from console import INSUFFICIENT, LOOKS, STANDING, TEXT, ConsoleCase, answer, expect
from system import free_port, request, wait_for
import rules


def server_sent(*events):
    return "".join(f"event: {name}\ndata: {data if isinstance(data, str) else json.dumps(data)}\n\n" for name, data in events)


def ledger(**counts):
    return {"accepted": 0, "queued": 0, "processing": 0, "learned": 0, "retracted": 0, "dead": 0, "passages": 0, **counts}


SYSTEM = {
    "version": "1.2.3",
    "replicas": [{"id": "api-1", "version": "1.2.3", "answering": True}, {"id": "api-2", "version": "1.2.2", "answering": False}],
    "workers": [{"name": "worker-1", "version": "1.2.3", "idle_seconds": 0}, {"name": "worker-2", "version": None, "idle_seconds": 400}],
    "queue": {"unfinished": 12, "oldest_seconds": 5, "limit": 1000000, "bytes": 2048, "limit_bytes": 1073741824},
    "embedded": False,
}


class WatchRules(ConsoleCase):
    def watch_view(self, page=None, base=None):
        page = self.open(base, "#/watch", page)
        expect(page.get_by_role("heading", name="Watch", exact=True)).to_be_visible()
        return page

    def standing(self, page=None):
        return (page or self.page).locator("#watched > li").first

    def scripted(self, path, *events, page=None):
        """A stream of events that ends at once; the page asks again, and waits then."""
        (page or self.page).route(f"**{path}", lambda route: route.fulfill(body=f"retry: 600000\n\n{server_sent(*events)}", content_type="text/event-stream"))

    def dead_letters(self, *texts):
        """Puts dead letters where the api finds them, as no text that it can be fed makes one."""
        self.api.stop()
        ids = []
        with sqlite3.connect(f"{self.directory}/data/multivac.db") as database:
            for text in texts:
                id, now = uuid.UUID(int=((int(time.time() * 1000) + len(ids)) << 80) | (7 << 76) | (2 << 62) | uuid.uuid4().int >> 80), int(time.time() * 1000)
                database.execute("INSERT INTO dead (id, attempts, error, died_at, received_at, text) VALUES (?, 5, ?, ?, ?, ?)", (id.bytes, "processing panicked: no good", now, now - 60_000, text))
                database.execute("UPDATE ledger SET accepted = accepted + 1, dead = dead + 1")
                ids.append(str(id))
        database.close()
        self.api.start()
        return ids

    # --- questions that are watched --------------------------------------------------------------------------------------

    def test_the_standing_answer_is_live_and_says_when_and_why_it_changed(self):
        self.watch_view()
        expect(self.standing()).to_contain_text(TEXT)
        expect(self.standing()).to_contain_text(STANDING)
        self.sees("#link", "Live")
        before = self.page.locator("#watched").evaluate("node => { window.requests = performance.getEntriesByType('resource').length; return node.textContent; }")
        self.assertIn("when this page began to watch", before)
        first = self.api.learned("The entropy of the universe can be reversed by cosmic AC saying let there be light, and there is no other way to reverse entropy in the universe.")
        said = request(self.api.base, "GET", "/multivac")[2]
        expect(self.standing().locator(".answer")).to_have_text(said)
        request(self.api.base, "DELETE", f"/multivac/data/{self.ids[0]}")
        expect(self.standing().locator(".changed")).to_contain_text(re.compile(r"at \d\d:\d\d:\d\d, since a datum was taken back: " + self.ids[0]))
        request(self.api.base, "DELETE", f"/multivac/data/{first}")
        expect(self.standing().locator(".answer")).to_have_text(INSUFFICIENT)
        expect(self.standing().locator(".changed")).to_contain_text(re.compile(r"Changed at \d\d:\d\d:\d\d, since a datum was taken back: " + first))
        self.ids[0] = self.api.learned(TEXT)
        expect(self.standing().locator(".changed")).to_contain_text("since a datum was learned: " + self.ids[0])
        self.standing().locator("summary").click()
        expect(self.standing().locator("details")).to_contain_text(INSUFFICIENT)

    def test_any_question_can_be_watched_from_where_it_was_asked_and_no_longer(self):
        self.open(view="#q=Who%20discovered%20vulcanite%3F")
        self.sees("#answer", INSUFFICIENT)
        self.page.get_by_role("button", name="Watch this").click()
        row = self.page.locator("#watched > li", has_text="vulcanite")
        expect(row).to_contain_text(INSUFFICIENT)
        id = self.api.learned("Ada Veblen discovered vulcanite.")
        expect(row.locator(".answer")).to_have_text("Ada Veblen discovered vulcanite.")
        expect(row.locator(".changed")).to_contain_text(f"since a datum was learned: {id}")
        self.page.reload()
        expect(row).to_contain_text("Ada Veblen")
        row.get_by_role("button", name="Watch no longer").click()
        expect(row).to_have_count(0)
        self.page.reload()
        self.sees("#watched", STANDING)
        expect(row).to_have_count(0)

    def test_no_more_questions_are_watched_than_there_are_connections(self):
        self.watch_view()
        for question in ("First?", "Second?"):
            self.page.locator("#watch-question").fill(question)
            self.page.get_by_role("button", name="Watch", exact=True).click()
            expect(self.page.locator("#watched > li", has_text=question).locator(".meter")).to_be_visible()
        self.page.locator("#watch-question").fill("Third?")
        self.page.keyboard.press("Enter")
        self.sees("#watched-said", "2 questions are watched already")
        # Something is left for asking.
        self.page.get_by_role("link", name="Ask", exact=True).click()
        self.ask("What can be reversed?")
        self.sees("#answer", "starlight")

    def test_why_a_question_is_not_watched_is_said(self):
        self.page.route("**/multivac/events?question=*", lambda route: route.fulfill(status=429, json={"detail": "too many different questions are watched"}, headers={"Retry-After": "60"}))
        self.watch_view()
        self.page.locator("#watch-question").fill("Who?")
        self.page.keyboard.press("Enter")
        expect(self.page.locator("#watched > li", has_text="Who?")).to_contain_text("too many different questions are watched")

    def test_what_stands_on_the_ask_page_follows_the_data(self):
        self.open(view="#q=Who%20found%20oxblood%3F")
        self.sees("#answer", INSUFFICIENT)
        self.api.learned("Bel Riose found oxblood.")
        self.sees("#answer", "Bel Riose found oxblood.")

    # --- the ledger and the rates -------------------------------------------------------------------------------------------

    def test_the_ledger_is_shown_as_an_equation_that_balances(self):
        self.watch_view()
        stats = self.api.stats()
        expect(self.page.locator("#stats dd").first).to_have_text(str(stats["accepted"]))
        self.api.learned("One more.")
        expect(self.page.locator("#stats dd").first).to_have_text(str(stats["accepted"] + 1))
        self.assertEqual(self.page.locator("#stats dt").all_text_contents(), ["accepted", "queued", "processing", "learned", "retracted", "dead"])
        self.sees("#balance", f"It balances: {stats['accepted'] + 1} = {stats['accepted'] + 1}.")

    def test_a_ledger_that_does_not_balance_is_said_so_and_large_ones_can_be_read(self):
        self.page.route("**/multivac/stats", lambda route: route.abort())
        self.scripted("/multivac/events", ("stats", ledger(accepted=1_000_000, learned=999_998, passages=3_000_000)))
        self.watch_view()
        self.sees("#balance", "It does not balance: 1,000,000 accepted, 999,998 accounted for.")
        expect(self.page.locator("#stats dd").first).to_have_text("1,000,000")

    def test_the_rates_are_drawn_with_words_for_them(self):
        self.watch_view()
        self.sees("#link", "Live")
        for number in range(5):
            self.api.learned(f"Rate number {number}.")
        chart = self.page.get_by_role("img", name=re.compile(r"Accepted a second: now .*, [1-9]\d* at most in the last two minutes"))
        expect(chart).to_be_visible()
        self.assertGreater(chart.locator("polyline").count(), 0)
        for name in ("Learned a second", "In the queue"):
            expect(self.page.get_by_role("img", name=re.compile(name))).to_be_visible()

    def test_nothing_is_asked_for_again_and_again(self):
        self.watch_view()
        self.sees("#link", "Live")
        expect(self.page.locator("#dead-said")).not_to_be_empty()
        self.page.wait_for_timeout(500)
        asked = []
        self.page.on("request", lambda request: asked.append(request.url))
        self.page.wait_for_timeout(4000)
        self.assertEqual(asked, [])

    # --- dead letters ---------------------------------------------------------------------------------------------------------

    def test_dead_letters_are_shown_with_their_text_retried_and_dropped(self):
        ids = self.dead_letters("The first dead letter.", "The second dead letter.", "The third dead letter.", "The fourth dead letter.")
        self.watch_view()
        self.sees("#dead-count", "4")
        rows = self.page.locator("#dead > li")
        expect(rows).to_have_count(4)
        expect(rows.first).to_contain_text("processing panicked: no good")
        expect(rows.first).to_contain_text("5 attempts")
        rows.first.locator("summary").click()
        expect(rows.first.locator("pre")).to_have_text("The first dead letter.")
        rows.first.get_by_role("button", name="Retry").click()
        self.sees("#dead-said", "It is back on the queue.")
        expect(rows).to_have_count(3)
        rows.first.locator("summary").click()
        rows.first.get_by_role("button", name="Drop …").click()
        rows.first.get_by_role("button", name="Keep it").click()
        self.assertEqual(self.page.evaluate("document.activeElement.textContent"), "Drop …")
        self.page.keyboard.press("Enter")
        self.page.keyboard.press("Escape")
        self.assertEqual(self.page.evaluate("document.activeElement.textContent"), "Drop …")
        rows.first.get_by_role("button", name="Drop …").click()
        rows.first.get_by_role("button", name="Drop it").click()
        self.sees("#dead-said", "It is dropped.")
        expect(rows).to_have_count(2)
        self.page.get_by_role("button", name="Retry all").click()
        self.sees("#dead-said", "2 data back on the queue.")
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "title-watch")
        self.idle()
        states = [json.loads(request(self.api.base, "GET", f"/multivac/data/{id}")[2])["status"] for id in ids]
        self.assertEqual(states, ["processed", "retracted", "processed", "processed"])

    def test_a_dead_letter_that_comes_is_shown_without_asking_again_and_again(self):
        reads = []
        letters = [[], [{"id": "01980000-0000-7000-8000-000000000000", "attempts": 5, "error": "no good", "received_at": "2026-01-01T00:00:00Z", "died_at": "2026-01-01T00:01:00Z", "size_bytes": 1500}]]
        self.page.route("**/multivac/dead?limit=20", lambda route: (reads.append(1), route.fulfill(json={"dead": letters[min(len(reads), 2) - 1], "next": None})))
        held = []
        self.page.route("**/multivac/events", lambda route: held.append(route))
        self.watch_view()
        self.sees("#dead-said", "None.")
        self.until("the stream", lambda: held)
        held[0].fulfill(body=server_sent(("stats", ledger(accepted=1, queued=1)), ("stats", ledger(accepted=1, dead=1))), content_type="text/event-stream")
        expect(self.page.locator("#dead > li")).to_contain_text("no good")
        self.assertEqual(len(reads), 2)

    def test_many_dead_letters_come_in_pages(self):
        def letter(number):
            return {"id": f"01980000-0000-7000-8000-{number:012}", "attempts": 5, "error": f"error {number}", "received_at": None, "died_at": "2026-01-01T00:01:00Z", "size_bytes": 15}

        def serve(route):
            after = re.search(r"after=([^&]*)", route.request.url)
            first = int(after[1][-12:]) + 1 if after else 0
            route.fulfill(json={"dead": [letter(number) for number in range(first, min(first + 20, 45))], "next": letter(first + 19)["id"] if first + 20 < 45 else None})

        self.page.route("**/multivac/dead?*limit=20*", serve)
        self.watch_view()
        more = self.page.get_by_role("button", name="Show more")
        for count in (20, 40):
            expect(self.page.locator("#dead > li")).to_have_count(count)
            more.click()
        expect(self.page.locator("#dead > li")).to_have_count(45)
        expect(more).to_be_hidden()

    # --- replicas, workers, the queue -------------------------------------------------------------------------------------------

    def test_replicas_workers_and_their_versions_are_shown_and_the_queue_with_its_age(self):
        self.scripted("/multivac/system", ("system", SYSTEM))
        self.watch_view()
        self.sees("#replicas", "api-2")
        expect(self.page.locator("#replicas tbody tr").nth(1)).to_contain_text("not answering")
        expect(self.page.locator("#workers tbody tr").nth(0)).to_contain_text("just now")
        expect(self.page.locator("#workers tbody tr").nth(1)).to_contain_text("7 min ago")
        self.sees("#version", "MultiVAC 1.2.3")
        self.sees("#queue-said", "The queue holds 12 of 1,000,000 data, the oldest for 5 s; 2 KiB of 1 GiB.")

    def test_what_the_system_is_made_of_comes_from_the_api_as_it_changes(self):
        self.watch_view()
        expect(self.page.locator("#replicas tbody tr")).to_have_count(1)
        self.sees("#replicas", "answering")
        self.sees("#version", "MultiVAC ")
        self.sees("#queue-said", "The queue holds 0 of 1,000,000 data")
        for _ in range(20):
            request(self.api.base, "GET", "/multivac?question=Who%3F")
        chart = self.page.get_by_role("img", name=re.compile(r"Questions a second: now [\d.]+, (?!0 )[\d.]+ at most"))
        expect(chart).to_be_visible()

    # --- what goes wrong ----------------------------------------------------------------------------------------------------------

    def test_a_stream_that_is_cut_is_said_and_comes_back_where_it_was(self):
        headers = []
        self.page.on("request", lambda request: headers.append(request.headers.get("last-event-id")) if request.url.endswith("/multivac/events") else None)
        self.watch_view()
        self.sees("#link", "Live")
        expect(self.standing()).to_contain_text(TEXT)
        self.api.stop()
        self.sees("#link", "Reconnecting")
        self.sees("#watch-note", "What is shown is what was known last.")
        expect(self.standing()).to_contain_text(TEXT)
        self.api.start()
        self.sees("#link", "Live")
        expect(self.page.locator("#watch-note")).to_be_hidden()
        self.assertIsNone(headers[0])
        self.assertTrue(headers[-1])

    def test_a_refusal_is_asked_again_after_as_long_as_it_said(self):
        tries = []

        def refuse_once(route):
            tries.append(time.monotonic())
            if len(tries) == 1:
                route.fulfill(status=503, json={"detail": "the replica stops"}, headers={"Retry-After": "2"})
            else:
                route.continue_()

        self.page.route("**/multivac/events", refuse_once)
        self.watch_view()
        self.sees("#watch-note", "the replica stops")
        self.sees("#link", "Live")
        self.assertGreaterEqual(tries[1] - tries[0], 1.9)

    def test_offline_is_said_and_ends_by_itself(self):
        self.watch_view()
        self.sees("#link", "Live")
        self.page.context.set_offline(True)
        self.sees("#link", "Offline")
        self.page.context.set_offline(False)
        self.sees("#link", "Live")

    def test_a_server_that_has_gone_silent_is_left(self):
        self.page.add_init_script("""
            // A minute in a moment: only for the watchdog of a stream.
            const late = window.setTimeout;
            window.setTimeout = (then, delay, ...more) => late(then, delay === 46000 ? 700 : delay, ...more);
        """)
        self.watch_view()
        self.sees("#link", "Live")
        self.api.process.process.send_signal(signal.SIGSTOP)
        try:
            self.sees("#link", "Reconnecting")
        finally:
            self.api.process.process.send_signal(signal.SIGCONT)

    def test_a_page_that_nobody_sees_gives_its_streams_up_and_misses_nothing(self):
        self.page.add_init_script("""
            const late = window.setTimeout;
            window.setTimeout = (then, delay, ...more) => late(then, delay === 1500 ? 100 : delay, ...more);
            Object.defineProperty(document, "hidden", {get: () => window.unseen ?? false});
            window.see = seen => { window.unseen = !seen; document.dispatchEvent(new Event("visibilitychange")); };
        """)
        self.watch_view()
        expect(self.standing()).to_contain_text(TEXT)
        self.sees("#link", "Live")
        self.page.evaluate("see(false)")
        self.sees("#link", "Paused")
        request(self.api.base, "DELETE", f"/multivac/data/{self.ids[0]}")
        self.page.evaluate("see(true)")
        self.sees("#link", "Live")
        expect(self.standing().locator(".answer")).to_have_text(INSUFFICIENT)
        expect(self.standing().locator(".changed")).to_contain_text(f"since a datum was taken back: {self.ids[0]}")
        self.ids[0] = self.api.learned(TEXT)

    def test_events_are_read_however_they_are_cut(self):
        body = ("\ufeff: hello\r\nretry: 600000\r\n\r\nevent: stats\rdata: " + json.dumps(ledger(accepted=3, learned=3)) + "\r\rid: 7\nevent: answer\n"
                + "".join(f"data: {line}\n" for line in json.dumps(json.loads(answer("Qué?", "Sí, señor.", before=None, because=None)), indent=1, ensure_ascii=False).splitlines()) + "\n").encode()  # fmt: skip

        class Cut(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Access-Control-Allow-Origin", "*")
                self.end_headers()
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Cut)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        # The page's own policy forbids another origin, so this page has none.
        page = self.new_page(bypass_csp=True)
        page.route("**/multivac/stats", lambda route: route.abort())
        page.add_init_script(f"const fetched = window.fetch; window.fetch = (path, ...more) => fetched(path === '/multivac/events' ? 'http://127.0.0.1:{server.server_port}/' : path, ...more);")
        self.watch_view(page)
        expect(self.standing(page)).to_contain_text("Sí, señor.")
        self.sees("#balance", "3 = 3", page)

    # --- the password at the edge ----------------------------------------------------------------------------------------------------

    def test_without_a_password_nothing_is_needed(self):
        self.watch_view()
        self.sees("#signed", "No password needed")
        expect(self.page.locator("#sign-in")).to_be_hidden()

    # --- for everybody ---------------------------------------------------------------------------------------------------------------

    def test_every_state_can_be_used_by_everybody_in_light_and_dark_wide_and_narrow(self):
        letters = [{"id": f"01980000-0000-7000-8000-{number:012}", "attempts": 5, "error": "processing panicked: " + "a long word " * 30, "received_at": None, "died_at": "2026-01-01T00:01:00Z", "size_bytes": 15} for number in range(3)]
        for scheme, size in LOOKS:
            page = self.new_page(scheme, size)
            with self.subTest(scheme=scheme, width=size["width"]):
                page.route("**/multivac/dead?limit=20", lambda route: route.fulfill(json={"dead": letters, "next": None}))
                page.route("**/multivac/dead/*", lambda route: route.fulfill(json={**letters[0], "data": "A text.\n" * 200}))
                self.scripted("/multivac/system", ("system", SYSTEM), page=page)
                self.watch_view(page)
                self.sees("#link", "Live", page)
                page.locator("#watch-question").fill("Who? " + "w" * 300)
                page.keyboard.press("Enter")
                expect(page.locator("#watched > li").nth(1)).to_contain_text(INSUFFICIENT)
                page.locator("#dead summary").first.click()
                expect(page.locator("#dead pre")).to_be_visible()
                page.get_by_role("button", name="Drop …").first.click()
                self.sees("#replicas", "api-2", page)
                expect(page.locator("#rates svg").first).to_be_visible()
                self.assert_usable(page, "live")
                page.route("**/multivac/events*", lambda route: route.abort())
                page.reload()
                self.sees("#link", "Reconnecting", page)
                self.assert_usable(page, "not live")


class EdgeRules(ConsoleCase):
    """Through nginx with its password, over HTTP/2."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_edge()

    def setUp(self):
        super().setUp()
        self.edge.finds_the_api()

    def test_reading_is_open_and_nobody_is_asked_for_a_password(self):
        self.open(self.edge.base)
        self.sees("#answer", TEXT)
        self.sees("#signed", "Not signed in")
        self.sees("#link", "Live")
        expect(self.page.get_by_role("button", name="Sign in")).to_be_visible()
        self.page.get_by_role("link", name="Watch").click()
        self.sees("#dead-said", "Sign in to see them.")
        self.sees("#replicas", "Sign in to see them.")
        self.page.get_by_role("link", name="Feed").click()
        self.sees("#feed-signed", "Feeding needs a password here.")

    def test_who_signs_in_sees_the_rest_and_is_remembered_in_this_tab(self):
        page = self.signed_in_page()
        self.open(self.edge.base, "#/watch", page)
        self.sees("#signed", "Not signed in", page)
        page.get_by_role("button", name="Sign in").click()
        self.sees("#signed", "Signed in", page)
        self.sees("#dead-said", "None.", page)
        expect(page.locator("#sign-in")).to_be_hidden()
        page.reload()
        self.sees("#signed", "Signed in", page)
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        self.assertNotIn(self.edge.password, kept)

    def test_a_wrong_password_or_none_is_said(self):
        page = self.new_page(http_credentials={"username": "susan", "password": "wrong"})
        self.open(self.edge.base, page=page)
        page.get_by_role("button", name="Sign in").click()
        self.sees("#banner", "Not signed in: a user name and its password are needed.", page)
        page.get_by_role("link", name="Feed").click()
        before = self.api.accepted()
        page.locator("#data").fill("Nobody's text.")
        page.locator("#feeding").click()
        self.sees("#fed", "this needs a user name and a password: sign in, then try again", page)
        expect(page.locator("#data")).to_have_value("Nobody's text.")
        self.assertEqual(self.api.accepted(), before)

    def test_feeding_taking_back_and_files_work_through_the_edge(self):
        page = self.signed_in_page("light")
        self.open(self.edge.base, "#/feed", page)
        page.locator("#data").fill("Calvin invented the hyperatomic motor.")
        page.locator("#feeding").click()
        self.sees("#fed", "MultiVAC updated!", page)
        self.sees("#signed", "Signed in", page)
        expect(page.locator("#feedings > li").first).to_contain_text("Learned")
        page.set_input_files("#files", [{"name": "x.ndjson", "mimeType": "", "buffer": b'{"data": "Through the edge."}\n' * 3}])
        expect(page.locator("#feedings > li").first).to_contain_text("3 data accepted, and learned.")
        page.get_by_role("link", name="Ask", exact=True).click()
        self.ask("Who invented the hyperatomic motor?", page)
        self.sees("#answer", "Calvin", page)
        page.locator("#evidence li").first.get_by_role("button", name="Take it back").click()
        page.get_by_role("button", name="Take it back for good").click()
        self.sees("#answer", INSUFFICIENT, page)

    def test_while_no_replica_answers_it_says_so_and_comes_back(self):
        self.open(self.edge.base)
        self.sees("#link", "Live")
        self.api.stop()
        try:
            self.ask("Who is there?")
            self.sees("#answer", "no replica of the api")
            self.sees("#link", "Reconnecting")
        finally:
            self.api.start()
        self.sees("#link", "Live")
        self.sees("#answer", INSUFFICIENT)

    def test_an_answer_comes_live_through_the_edge(self):
        self.open(self.edge.base, "#/watch")
        self.sees("#link", "Live")
        self.page.locator("#watch-question").fill("Who painted the crimson owl?")
        self.page.keyboard.press("Enter")
        row = self.page.locator("#watched > li", has_text="crimson")
        expect(row).to_contain_text(INSUFFICIENT)
        self.api.learned("Noys Lambent painted the crimson owl.")
        expect(row.locator(".answer")).to_have_text("Noys Lambent painted the crimson owl.")

    def test_the_pages_policy_is_the_only_one(self):
        found = {name.lower(): value for name, value in request(self.edge.base, "GET", "/", [("Accept", "text/html")])[1].items()}
        self.assertIn("script-src 'sha256-", found["content-security-policy"])
        self.assertEqual(request(self.edge.base, "GET", "/")[2], "Welcome to MultiVAC!")


if __name__ == "__main__":
    rules.run("watch")
