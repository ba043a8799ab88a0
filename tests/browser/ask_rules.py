"""Tries with a real Chromium what somebody who asks sees at the console; scripts/browser.sh runs it."""

import json
import re
import urllib.parse

from console import INSUFFICIENT, LOOKS, NARROW, STANDING, TEXT, ConsoleCase, answer, expect
from system import request
import rules

AGREEING = "In the end the entropy of the universe is reversed by gathering all of the starlight, as Multivac found."
CONTRADICTING = "The entropy of the universe cannot be reversed by gathering all of the starlight."
LONG = "Nothing is said here of it. " * 200 + "Zeppo Marx was born in Manhattan in 1901. " + "Nor is it here. " * 200
ARABIC = "عاصمة فرنسا هي باريس."


class AskRules(ConsoleCase):
    texts = (TEXT, AGREEING, CONTRADICTING, "Susan Calvin was a robopsychologist.", LONG, ARABIC)

    def hold(self, pattern, page=None):
        """Requests that match wait until they are let go."""
        held = []
        (page or self.page).route(pattern, lambda route: held.append(route))
        return held

    def held(self, held, count=1):
        self.until("a question", lambda: len(held) >= count)
        return held

    def recorded(self):
        """The questions that the browser sends."""
        asked = []
        self.page.on("request", lambda request: "/multivac?" in request.url and asked.append(urllib.parse.unquote_plus(request.url.partition("question=")[2])))
        return asked

    # --- an answer ------------------------------------------------------------------------------------------------------

    def test_the_standing_question_is_answered_at_once(self):
        self.open()
        self.sees("#asked", STANDING)
        self.sees("#answer", "starlight")
        expect(self.page.locator("#question")).to_have_attribute("placeholder", STANDING)
        expect(self.page).to_have_title("Ask – MultiVAC")

    def test_the_answer_stands_in_its_passage_with_the_words_marked_that_carried_it(self):
        self.open(view="#q=Who%20was%20Susan%20Calvin%3F")
        self.sees("#answer", "Susan Calvin was a robopsychologist.")
        self.assertEqual(self.page.locator("#answer mark").all_text_contents(), ["Susan", "Calvin"])
        self.ask("Where was Zeppo Marx born?")
        self.sees("#answer", "Zeppo Marx was born in Manhattan in 1901.")
        before, after = self.shown("#before"), self.shown("#after")
        self.assertTrue(before.startswith("… ") and after.endswith(" …") and len(before) + len(after) < 700, (before, after))
        self.page.get_by_role("button", name="Show the whole passage").click()
        self.assertGreater(len(self.shown("#before")), 1000)
        expect(self.page.locator("#evidence .passage").first).to_contain_text("Zeppo")
        self.assertLess(len(self.shown("#evidence li:first-child .passage")), 700)
        self.page.get_by_role("button", name=re.compile("Show all")).first.click()
        self.assertGreater(len(self.shown("#evidence li:first-child .passage")), 1000)

    def test_confidence_is_a_bar_with_the_threshold_in_it_and_words_for_both(self):
        self.open()
        reply = json.loads(request(self.api.base, "GET", "/multivac", [("Accept", "application/json")])[2])
        bar = self.page.get_by_role("meter", name="Confidence")
        expect(bar).to_have_attribute("aria-valuenow", str(int(reply["confidence"] * 100 + 0.5)))
        self.assertIn("answers begin at", bar.get_attribute("aria-valuetext"))
        self.assertIn(f"answers begin at {int(reply['threshold'] * 100 + 0.5)}", self.shown("#confidence"))
        left = self.page.evaluate("document.querySelector('.tick').style.left")
        self.assertAlmostEqual(float(left.rstrip("%")), reply["threshold"] * 100, 1)

    def test_evidence_has_its_stance_its_time_and_its_id(self):
        self.open()
        first = self.page.locator("#evidence li").first
        expect(first).to_contain_text("the answer")
        expect(first.locator("time")).to_have_attribute("datetime", re.compile(r"^2\d{3}-"))
        reply = json.loads(request(self.api.base, "GET", "/multivac", [("Accept", "application/json")])[2])
        ids = [piece["id"] for piece in reply["evidence"]]
        self.assertEqual(self.page.locator("#evidence .id").all_text_contents(), ids)
        stances = [piece.get("stance") for piece in reply["evidence"]]
        self.assertIn("agrees", stances)
        self.assertIn("contradicts", stances)
        for index, stance in enumerate(stances):
            if stance:
                expect(self.page.locator("#evidence li").nth(index).locator(f".badge.{stance}")).to_have_text(stance)

    def test_where_data_are_insufficient_it_says_what_was_missing_and_what_came_nearest(self):
        self.open()
        self.ask("Who ate the xylophone of the universe?")
        self.sees("#answer", INSUFFICIENT)
        self.sees("#missing", "xylophone")
        self.sees("#evidence-title", "What came nearest")
        self.assertIn("short of the", self.shown("#confidence"))
        self.ask("Qwxyz?")
        self.sees("#missing", "qwxyz")
        expect(self.page.locator("#evidence-part")).to_be_hidden()

    def test_a_text_from_right_to_left_is_shown_so(self):
        self.open()
        self.ask("ما هي عاصمة فرنسا؟")
        expect(self.page.locator("#evidence .passage").first).to_contain_text("باريس")
        direction = "node => getComputedStyle(node).direction"
        self.assertEqual(self.page.locator("#evidence .passage").first.evaluate(direction), "rtl")
        self.assertEqual(self.page.locator("#asked").evaluate(direction), "rtl")
        self.assertEqual(self.page.locator("#question").evaluate(direction), "rtl")

    def test_signs_in_an_answer_are_shown_as_they_are(self):
        text = r"The e-mail's re-entry (1920-1992) of a/b, C++ and [x]\y was well-known; A- was given. Why? $5 ^2 {3} | 4*"
        piece = {"id": "01980000-0000-7000-8000-000000000000", "passage": f"Before. {text} After.", "score": 0.8, "features": {}, "matched": ["e-mail", "A-", "C++", r"[x]\y"]}
        reply = json.dumps({**json.loads(answer("Which signs?", text)), "evidence": [piece]})
        self.page.route("**/multivac?question=*", lambda route: route.fulfill(body=reply, content_type="application/json"))
        self.open()
        self.ask("Which signs?")
        expect(self.page.locator("#answer")).to_have_text(text)
        self.assertEqual(self.page.locator("#answer mark").all_text_contents(), ["e-mail", "C++", r"[x]\y", "A-"])
        self.assertEqual(self.shown("#before"), "Before.")

    def test_what_was_fed_is_shown_and_not_run(self):
        evil = "<img src=x onerror=alert(1)> <script>alert(2)</script> Zorblax was a vandal."
        self.page.on("dialog", lambda dialog: self.fail(dialog.message))
        reply = answer("<b>Who?</b>", evil, evidence=[evil], missing=["<i>"])
        self.page.route("**/multivac?question=*", lambda route: route.fulfill(body=reply, content_type="application/json"))
        self.open()
        self.ask("<b>Who?</b>")
        for place in ("#answer", "#evidence"):
            self.sees(place, "<script>alert(2)</script>")
        self.sees("#asked", "<b>Who?</b>")
        self.assertEqual(self.page.locator("#reply img, #reply script").count(), 0)

    # --- while one types -------------------------------------------------------------------------------------------------

    def test_it_answers_while_one_types_and_asks_seldom(self):
        self.open()
        self.sees("#answer", "starlight")
        asked = self.recorded()
        self.page.locator("#question").press_sequentially("Who was Susan Calvin?", delay=15)
        self.sees("#answer", "robopsychologist")
        # Not once a letter; a machine that is busy types in pieces.
        self.assertEqual(asked[-1], "Who was Susan Calvin?")
        self.assertLess(len(asked), 5, asked)
        expect(self.page).to_have_url(re.compile("#q=Who%20was%20Susan%20Calvin%3F$"))

    def test_the_last_question_wins_whatever_comes_late(self):
        self.open()
        self.sees("#answer", "starlight")
        held = self.hold("**/multivac?question=*slow*")
        self.ask("Who is slow?")
        self.held(held)
        self.ask("Who was Susan Calvin?")
        self.sees("#answer", "robopsychologist")
        # Given up by the page, so there is nobody to answer; whatever comes is not shown.
        try:
            held[0].fulfill(body=answer("Who is slow?", "Too late."), content_type="application/json")
        except Exception:
            pass
        self.page.wait_for_timeout(300)
        self.assertEqual([self.shown("#asked"), self.shown("#answer")], ["Who was Susan Calvin?", "Susan Calvin was a robopsychologist."])

    def test_replies_out_of_order_show_the_last_question(self):
        self.open()
        held = self.hold("**/multivac?question=*")
        for count, question in enumerate(("First?", "Second?", "Third?"), 1):
            self.ask(question)
            self.held(held, count)
        for route, question in reversed(list(zip(held, ("First?", "Second?", "Third?")))):
            try:
                route.fulfill(body=answer(question, f"To {question}"), content_type="application/json")
            except Exception:
                pass
        self.sees("#answer", "To Third?")
        self.assertEqual(self.shown("#asked"), "Third?")

    def test_while_a_question_is_under_way_the_old_answer_is_gone(self):
        self.open()
        self.sees("#answer", "starlight")
        held = self.hold("**/multivac?question=*")
        self.ask("Who is slow?")
        self.held(held)
        self.sees("#waiting", "Asking …")
        self.assertEqual([self.shown(at) for at in ("#asked", "#answer", "#evidence", "#confidence")], ["Who is slow?", "", "", ""])
        expect(self.page.locator("#reply")).to_have_attribute("aria-busy", "true")
        held[0].continue_()
        self.sees("#answer", INSUFFICIENT)
        expect(self.page.locator("#reply")).to_have_attribute("aria-busy", "false")

    # --- the address and the history -----------------------------------------------------------------------------------------

    def test_a_link_leads_to_a_question_and_no_server_hears_of_the_address(self):
        paths = []
        self.page.on("request", lambda request: request.is_navigation_request() and paths.append(request.url))
        self.open(view="#q=Who+was+Susan%20Calvin%3F")
        self.sees("#answer", "robopsychologist")
        expect(self.page.locator("#question")).to_have_value("Who was Susan Calvin?")
        expect(self.page).to_have_title("Who was Susan Calvin? – MultiVAC")
        sent = [url.partition("#")[0] for url in paths]
        self.assertEqual(sent, [f"{self.api.base}/"])

    def test_back_and_forward_lead_through_the_questions(self):
        self.open()
        self.sees("#answer", "starlight")
        self.page.locator("#question").press_sequentially("Who was Susan Calvin?", delay=5)
        self.page.keyboard.press("Enter")
        self.sees("#answer", "robopsychologist")
        self.page.locator("#question").fill("")
        self.page.locator("#question").press_sequentially("Where was Zeppo Marx born?", delay=5)
        self.page.keyboard.press("Enter")
        self.sees("#answer", "Manhattan")
        self.page.go_back()
        self.sees("#answer", "robopsychologist")
        expect(self.page.locator("#question")).to_have_value("Who was Susan Calvin?")
        self.page.go_back()
        self.sees("#asked", STANDING)
        expect(self.page.locator("#question")).to_have_value("")
        self.page.go_forward()
        self.sees("#answer", "robopsychologist")

    def test_questions_asked_lately_are_kept_in_the_browser_and_can_be_cleared(self):
        self.open()
        for question, said in (("Who was Susan Calvin?", "robopsychologist"), ("Where was Zeppo Marx born?", "Manhattan")):
            self.ask(question)
            self.sees("#answer", said)
            expect(self.page.locator("#recent-list")).to_contain_text(question)
        self.page.reload()
        self.assertEqual(self.page.locator("#recent-list a").all_text_contents(), ["Where was Zeppo Marx born?", "Who was Susan Calvin?"])
        self.page.locator("#recent-list").get_by_text("Who was Susan Calvin?").click()
        self.sees("#answer", "robopsychologist")
        self.page.get_by_role("button", name="Clear").click()
        expect(self.page.locator("#recent")).to_be_hidden()
        self.assertIsNone(self.page.evaluate("localStorage.getItem('multivac.recent')"))

    def test_a_link_to_the_question_can_be_copied(self):
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.open(view="#q=Who%20was%20Susan%20Calvin%3F")
        self.sees("#answer", "robopsychologist")
        self.page.get_by_role("button", name="Copy link").click()
        expect(self.page.locator("#copy-link")).to_have_text("Copied")
        self.assertEqual(self.page.evaluate("navigator.clipboard.readText()"), f"{self.api.base}/#q=Who%20was%20Susan%20Calvin%3F")

    # --- what goes wrong -------------------------------------------------------------------------------------------------------

    def test_a_question_that_fails_shows_why_and_no_old_answer(self):
        self.open()
        for reply, said in (
            ({"status": 503, "json": {"detail": "the replica is fenced"}, "headers": {"Retry-After": "60"}}, "the replica is fenced"),
            ({"status": 429, "json": {"detail": "too many requests"}, "headers": {"Retry-After": "60"}}, "too many requests"),
            ({"status": 500, "json": {"detail": "it has failed"}}, "it has failed"),
            ({"status": 502, "body": "<html>Bad Gateway", "headers": {"Retry-After": "60"}}, "MultiVAC's reply (502) cannot be read."),
            ({"status": 200, "body": "<html>"}, "MultiVAC's reply (200) cannot be read."),
        ):
            with self.subTest(said):
                self.page.route("**/multivac?question=*", lambda route: route.fulfill(**reply))
                self.ask("Who?")
                self.sees("#answer", said)
                self.assertEqual([self.shown(at) for at in ("#asked", "#confidence", "#evidence")], ["Who?", "", ""])
                expect(self.page.locator("#answer")).to_have_class("answer error")
                self.page.unroute("**/multivac?question=*")
                self.page.get_by_role("button", name="Try again").click()
                self.sees("#answer", INSUFFICIENT)

    def test_after_a_503_it_asks_again_by_itself_when_the_server_said(self):
        self.open()
        asked = []

        def once(route):
            asked.append(route.request.url)
            if len(asked) == 1:
                route.fulfill(status=503, json={"detail": "the replica is fenced"}, headers={"Retry-After": "1"})
            else:
                route.continue_()

        self.page.route("**/multivac?question=*", once)
        self.ask("Who was Susan Calvin?")
        self.sees("#answer", "fenced")
        self.sees("#answer", "robopsychologist")
        self.assertEqual(len(asked), 2)

    def test_a_reply_that_is_cut_is_an_error(self):
        self.open()
        self.page.route("**/multivac?question=*", lambda route: route.abort("connectionreset"))
        self.ask("Who?")
        self.sees("#answer", "MultiVAC does not answer.")

    def test_a_stale_answer_is_shown_as_such(self):
        self.open()
        for warning, said in (('110 multivac "Response is Stale"', "no replica answers"), ('199 multivac "the index is not filled yet"', "the index is not filled yet")):
            self.page.route("**/multivac?question=*", lambda route: route.fulfill(body=answer("Who?", "Old."), content_type="application/json", headers={"Warning": warning}))
            self.ask(f"Who? {said}")
            self.sees("#answer", "Old.")
            self.sees("#stale", said)
            self.page.unroute("**/multivac?question=*")
        self.ask("Who was Susan Calvin?")
        self.sees("#answer", "robopsychologist")
        expect(self.page.locator("#stale")).to_be_hidden()

    def test_offline_is_said_and_ends_by_itself(self):
        self.open()
        self.sees("#answer", "starlight")
        self.page.context.set_offline(True)
        self.ask("Who was Susan Calvin?")
        self.sees("#answer", "You are offline.")
        self.sees("#link", "Offline")
        self.page.context.set_offline(False)
        self.sees("#answer", "robopsychologist")

    def test_while_the_api_is_down_it_says_so_and_afterwards_it_answers_by_itself(self):
        self.open()
        self.sees("#answer", "starlight")
        self.api.stop()
        try:
            self.ask("Who was Susan Calvin?")
            self.sees("#answer", "MultiVAC does not answer.")
            self.assertEqual([self.shown(at) for at in ("#confidence", "#evidence")], ["", ""])
            self.sees("#link", "Reconnecting")
        finally:
            self.api.start()
        self.sees("#answer", "robopsychologist")

    # --- taking back -------------------------------------------------------------------------------------------------------------

    def test_a_datum_is_taken_back_after_a_question_and_the_answer_follows(self):
        self.api.learned("Powell met the robot Speedy on Mercury.")
        self.open()
        self.ask("Where did Powell meet Speedy?")
        self.sees("#answer", "Mercury")
        row = self.page.locator("#evidence li").first
        row.get_by_role("button", name="Take it back").click()
        row.get_by_role("button", name="Keep it").click()
        self.assertEqual(self.api.stats()["retracted"], 0)
        row.get_by_role("button", name="Take it back").click()
        self.page.keyboard.press("Escape")
        row.get_by_role("button", name="Take it back").click()
        row.get_by_role("button", name="Take it back for good").click()
        self.sees("#answer", INSUFFICIENT)
        self.assertEqual(self.api.stats()["retracted"], 1)

    def test_what_came_of_taking_back_is_said(self):
        self.open()
        for reply, said in (
            ({"status": 401, "json": {"detail": "this needs a user name and a password"}}, "sign in, then try again"),
            ({"status": 503, "json": {"detail": "the store is out of reach"}}, "Not taken back: the store is out of reach"),
            ({"status": 404, "json": {"detail": "no such datum"}}, "There is no such datum"),
        ):
            with self.subTest(said):
                self.page.reload()
                self.page.route("**/multivac/data/*", lambda route: route.fulfill(**reply) if route.request.method == "DELETE" else route.continue_())
                row = self.page.locator("#evidence li").first
                row.get_by_role("button", name="Take it back").click()
                row.get_by_role("button", name="Take it back for good").click()
                expect(self.page.locator("#evidence .outcome", has_text=said)).to_have_count(1)
                self.page.unroute("**/multivac/data/*")

    def test_a_retraction_that_some_replicas_have_not_seen_is_followed(self):
        self.open()
        visible = [1]

        def serve(route):
            if route.request.method == "DELETE":
                route.fulfill(status=202, json={"id": "x", "status": "retracted", "detail": "…", "replicas": ["api-2"]})
            else:
                route.fulfill(json={"id": "x", "status": "retracted", "received_at": None, "processed_at": None, "passages": 0, **({"visible_to": 1} if visible else {})})

        self.page.route("**/multivac/data/*", serve)
        row = self.page.locator("#evidence li").first
        row.get_by_role("button", name="Take it back").click()
        row.get_by_role("button", name="Take it back for good").click()
        self.sees("#evidence li:first-child .outcome", "1 replica has not said yet")
        visible.clear()
        self.sees("#evidence li:first-child .outcome", "No answer rests on it any more")

    # --- for everybody -------------------------------------------------------------------------------------------------------------

    def test_every_state_can_be_used_by_everybody_in_light_and_dark_wide_and_narrow(self):
        for scheme, size in LOOKS:
            page = self.new_page(scheme, size)
            self.open(page=page)
            with self.subTest(scheme=scheme, width=size["width"]):
                expect(page.locator("#evidence time").first).to_be_visible()
                self.assert_usable(page, "answered")
                page.locator("#evidence").get_by_role("button", name="Take it back").first.click()
                self.assert_usable(page, "taking back")
                self.ask("Who ate the xylophone of the universe?", page)
                self.sees("#answer", INSUFFICIENT, page)
                expect(page.locator("#recent")).to_be_visible()
                self.assert_usable(page, "insufficient data")
                self.ask("Where was Zeppo Marx born?", page)
                self.sees("#answer", "Manhattan", page)
                self.assert_usable(page, "a long passage")
                self.ask("ما هي عاصمة فرنسا؟", page)
                self.sees("#evidence", "باريس", page)
                self.assert_usable(page, "from right to left")
                held = []
                page.route("**/multivac?question=*", lambda route: held.append(route))
                self.ask("Who is slow?", page)
                self.sees("#waiting", "Asking", page)
                self.assert_usable(page, "asking")
                page.unroute("**/multivac?question=*")
                page.route("**/multivac?question=*", lambda route: route.fulfill(status=503, json={"detail": "the replica is fenced"}, headers={"Retry-After": "60"}))
                self.ask("W" * 900, page)
                self.sees("#answer", "fenced", page)
                self.assert_usable(page, "failed")

    def test_the_keyboard_reaches_everything_in_order_and_focus_can_be_seen(self):
        self.open()
        expect(self.page.locator("#evidence time").first).to_be_visible()
        names = []
        for _ in range(10):
            self.page.keyboard.press("Tab")
            names.append(self.page.evaluate("(document.activeElement.getAttribute('aria-label') || document.activeElement.textContent || document.activeElement.id).trim()"))
            self.assertTrue(self.page.evaluate("(style => style.outlineStyle != 'none' && parseFloat(style.outlineWidth) >= 2)(getComputedStyle(document.activeElement))"), names[-1])
        self.assertEqual(names, ["Skip to the content", "MultiVAC: ask", "Ask", "Feed", "Watch", "Theme: as the system has it", "question", "Ask", "Copy link", "Watch this"])
        self.page.reload()
        self.page.keyboard.press("Tab")
        self.page.keyboard.press("Enter")
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "main")

    def test_a_screen_reader_hears_an_answer_once_and_not_each_letter(self):
        self.open()
        self.sees("#answer", "starlight")
        self.page.evaluate("""() => {
            window.heard = [];
            new MutationObserver(() => heard.push(spoken.textContent)).observe(spoken, {childList: true, characterData: true, subtree: true});
        }""")
        self.page.locator("#question").press_sequentially("Who was Susan Calvin?", delay=260)
        self.sees("#spoken", "robopsychologist")
        self.assertEqual(len(self.page.evaluate("heard")), 1)

    def test_the_theme_is_the_systems_until_one_is_chosen_and_then_remembered(self):
        ground = "getComputedStyle(document.body).backgroundColor"
        page = self.new_page("light")
        self.open(page=page)
        light = page.evaluate(ground)
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate(ground)
        self.assertNotEqual(light, dark)
        page.get_by_role("button", name="Theme: as the system has it").click()
        self.assertEqual(page.evaluate(ground), light)
        page.reload()
        self.assertEqual(page.evaluate(ground), light)
        page.get_by_role("button", name="Theme: light").click()
        page.emulate_media(color_scheme="light")
        self.assertEqual(page.evaluate(ground), dark)
        page.get_by_role("button", name="Theme: dark").click()
        self.assertEqual(page.evaluate(ground), light)

    def test_at_200_percent_on_a_phone_nothing_is_cut_off(self):
        page = self.new_page("light", {"width": 640, "height": 900})
        self.open(page=page)
        self.sees("#answer", "starlight", page)
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        self.assert_usable(page, "200 %")

    def test_who_wants_no_motion_sees_none(self):
        page = self.new_page("dark", NARROW, reduced_motion="reduce")
        self.open(page=page)
        page.route("**/multivac?question=*", lambda route: None)
        self.ask("Who is slow?", page)
        self.sees("#waiting", "Asking", page)
        self.assertEqual(page.evaluate("document.getAnimations().length"), 0)

    def test_the_page_loads_nothing_from_elsewhere_and_its_policy_allows_only_its_own(self):
        hosts = set()
        self.page.on("request", lambda request: hosts.add(urllib.parse.urlsplit(request.url).netloc))
        self.open()
        self.sees("#answer", "starlight")
        self.assertLessEqual(hosts, {f"127.0.0.1:{self.api.port}", ""})
        headers = request(self.api.base, "GET", "/", [("Accept", "text/html")])[1]
        policy = headers["content-security-policy"]
        self.assertRegex(policy, r"script-src 'sha256-[A-Za-z0-9+/=]{44}';")
        self.assertNotIn("unsafe", policy)
        self.assertEqual(self.page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.smuggled = 1";
            document.body.append(script);
            return window.smuggled ?? "refused";
        }"""), "refused")
        self.page.errors.clear()
        tagged = request(self.api.base, "GET", "/", [("Accept", "text/html"), ("If-None-Match", headers["etag"])])
        self.assertEqual((tagged[0], tagged[2]), (304, ""))
        self.assertEqual(request(self.api.base, "GET", "/", [("Accept", "*/*")])[2], "Welcome to MultiVAC!")


if __name__ == "__main__":
    rules.run("ask")
