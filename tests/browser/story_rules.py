"""The console from the first text to the last screen, as one person uses it; scripts/browser.sh runs it.

With MULTIVAC_SCREENSHOTS=directory, it leaves there a picture of each view: those of docs/console are made so.
"""

import os
import pathlib
import re

from console import INSUFFICIENT, NARROW, ConsoleCase, expect
from system import wait_for
import rules

STORY = """For Alexander Adell and Bertram Lupov, two faithful attendants of the machine, the question began as a bet.

The last question was asked for the first time in 2061. Nobody expected a reply. Multivac fell dead and silent, and the lights stopped blinking.

Entropy cannot be reversed as long as the stars run down, said Lupov. The entropy of the universe is reversed by gathering all of the starlight there ever was, said Adell years later, and he was not believed."""
LETTERS = "\n".join(f'{{"data": "Observation {number}: the star Gamma-{number} has a mass of {number + 3} suns."}}' for number in range(1, 1201))
SHOTS = os.environ.get("MULTIVAC_SCREENSHOTS")


class StoryRules(ConsoleCase):
    texts = ()

    def shoot(self, page, name, **how):
        if SHOTS:
            pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
            page.mouse.move(0, 0)
            page.screenshot(path=f"{SHOTS}/{name}.png", animations="disabled", caret="hide", **how)

    def feed_file(self, page, name, text):
        page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": text.encode()}])
        expect(page.locator("#feedings > li").first).to_contain_text(re.compile("learned|answered|Nothing was"))

    def test_somebody_feeds_asks_and_watches(self):
        page = self.new_page("light")
        # Nothing has been fed: it says so, and where to go.
        self.open(page=page)
        self.sees("#answer", INSUFFICIENT, page)
        self.sees("#searched", "No data have been learned yet.", page)
        self.assert_usable(page, "no data")

        # They feed a text and two files.
        page.get_by_role("link", name="Feed", exact=True).click()
        page.locator("#data").fill(STORY)
        page.locator("#feeding").click()
        expect(page.locator("#feedings > li").first).to_contain_text("Learned: it can be answered with.")
        self.feed_file(page, "stars.ndjson", LETTERS + '\nGamma-1201 is no JSON\n{"text": "nor is this a datum"}\n')
        expect(page.locator("#feedings > li").first).to_contain_text("2 rejected")
        page.locator("#feedings summary").first.click()
        self.shoot(page, "feed")

        # They ask.
        page.get_by_role("link", name="Ask", exact=True).click()
        self.sees("#answer", "starlight", page)
        page.locator("#question").press_sequentially("When was the last question asked for the first time?", delay=5)
        self.sees("#answer", "2061", page)
        expect(page.locator("#recent-list")).to_contain_text("When was the last question")
        expect(page.locator("#evidence time").first).to_be_visible()
        self.shoot(page, "ask")
        page.locator("#question").fill("")
        page.locator("#question").press_sequentially("Who drank the zinfandel of Trantor?", delay=5)
        self.sees("#answer", INSUFFICIENT, page)
        self.sees("#missing", "zinfandel", page)
        page.go_back()
        self.sees("#answer", "2061", page)

        # They watch, and the answer changes before their eyes, twice.
        page.get_by_role("link", name="Watch", exact=True).click()
        page.locator("#watch-question").fill("Who answered the last question?")
        page.keyboard.press("Enter")
        row = page.locator("#watched > li", has_text="Who answered")
        expect(row).to_contain_text("%")
        for number in range(9):
            for also in range(1 + number % 4):
                self.api.learned(f"Star number {number}.{also} has gone out.")
            page.wait_for_timeout(250)
        id = self.api.learned("Cosmic AC answered the last question after all the stars had gone out.")
        expect(row.locator(".answer")).to_have_text("Cosmic AC answered the last question after all the stars had gone out.")
        expect(row.locator(".changed")).to_contain_text(f"since a datum was learned: {id}")
        page.wait_for_timeout(1200)
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 1080, "height": 840})
        self.shoot(page, "watch")
        page.set_viewport_size({"width": 1200, "height": 900})

        # In the dark, on a telephone, and while MultiVAC is away.
        page.get_by_role("link", name="Ask", exact=True).click()
        self.sees("#answer", "2061", page)
        self.shoot(page, "dark")
        phone = self.new_page("dark", {**NARROW, "width": 375, "height": 760})
        self.open(view="#q=When%20was%20the%20last%20question%20asked%3F", page=phone)
        self.sees("#answer", "2061", phone)
        expect(phone.locator("#evidence time").first).to_be_visible()
        self.shoot(phone, "narrow")
        page.emulate_media(color_scheme="light")
        self.api.stop()
        try:
            self.ask("Is anybody there?", page)
            self.sees("#answer", "MultiVAC does not answer.", page)
            self.sees("#link", "Reconnecting", page)
            self.shoot(page, "error")
        finally:
            self.api.start()
        self.sees("#link", "Live", page)
        self.sees("#answer", INSUFFICIENT, page)

        # They take back what should not have been said.
        self.ask("Who answered the last question?", page)
        self.sees("#answer", "Cosmic AC", page)
        page.locator("#evidence li").first.get_by_role("button", name="Take it back").click()
        page.get_by_role("button", name="Take it back for good").click()
        expect(page.locator("#answer")).not_to_contain_text("Cosmic AC")
        wait_for("the retraction", lambda: self.api.stats()["retracted"] == 1)
        if SHOTS:
            sizes = {shot.name: shot.stat().st_size for shot in pathlib.Path(SHOTS).glob("*.png")}
            self.assertLess(max(sizes.values()), 120_000, sizes)


if __name__ == "__main__":
    rules.run("story")
