"""Cases of the objectives: error budgets that are used up fast, slowly, or not quite fast enough; see cases.py."""

from cases import case, mongodb_is_away, page, ticket
from system import ASK, BULK, FEED, RETRACT, TRAFFIC


def going_wrong(name, share):
    """So large a share of an objective's events is bad from one minute to another."""

    def change(it, start, end=None):
        bad = round(TRAFFIC * share)
        half = bad // 2
        for api in it.apis:
            if name == "ask":
                api.requests(ASK, 200, TRAFFIC - bad, start, end)
                api.requests(ASK, 503, half, start, end)
                api.requests(ASK, 304, bad - half, start, end, slow=True)
            elif name == "feed":
                api.requests(FEED, 200, TRAFFIC // 2 - half, start, end)
                api.requests(BULK, 200, TRAFFIC // 2 - (bad - half), start, end)
                api.requests(FEED, 503, half, start, end)
                api.requests(BULK, 500, bad - half, start, end)
            elif name == "retraction":
                api.requests(RETRACT, 204, TRAFFIC - bad, start, end)
                api.requests(RETRACT, 202, half, start, end)
                api.requests(RETRACT, 503, bad - half, start, end)
                api.requests(RETRACT, 404, TRAFFIC, start, end)  # no retraction, so neither good nor bad
            else:
                api.answerable(TRAFFIC, start, end, late=bad)

    return change


# The objective; its budget; what goes wrong from minute 60 on, and for how long, until a page; a minute at which it burns as fast, but
# not for two minutes yet; what the summary says.
OBJECTIVES = {
    "ask": (0.001, 0.5, 4, 62.5, "3.333% of the questions failed or took over 250 ms; 0.1% may"),
    "feed": (0.005, 1, 6, 65.5, "10% of the requests that fed data got a 5xx; 0.5% may"),
    "answerable": (0.01, 1, 12, 70, "20% of the data took over 30 s from accepted to answerable; 1% may"),
    "retraction": (0.001, 0.5, 4, 62.5, "3.333% of the retractions were not everywhere when their reply was sent; 0.1% may"),
}

for name, (budget, all_wrong, minutes, soon, summary) in OBJECTIVES.items():
    alert = f"{name.capitalize()}BudgetBurn"

    @case(90, near=alert, name=f"the budget of {name} burns fast")
    def fast(it, name=name, share=all_wrong, minutes=minutes, soon=soon, alert=alert, summary=summary):
        going_wrong(name, share)(it, 60, 60 + minutes)
        return {59: [], soon: [], 60 + minutes: [page(alert, summary)], 66 + minutes: [], 89: []}

    @case(430, near=alert, every=2, apis=1, workers=1, edges=0, name=f"the budget of {name} burns nearly as fast as a page says")
    def nearly(it, name=name, share=5.5 * budget):
        going_wrong(name, share)(it, 10)
        return {minute: [] for minute in (60, 120, 360, 430)}

    @case(340, every=2, apis=1, workers=1, edges=0, name=f"the budget of {name} burns for hours")
    def hours(it, name=name, share=8 * budget, alert=alert):
        going_wrong(name, share)(it, 10, 300)
        return {60: [], 240: [], 296: [page(alert)], 330: []}

    @case(960, every=4, apis=1, workers=1, edges=0, name=f"the budget of {name} burns for a day")
    def day(it, name=name, share=5 * budget, alert=alert):
        going_wrong(name, share)(it, 10)
        # Three times the budget of a day is used up after three fifths of it: 864 minutes.
        return {600: [], 840: [], 960: [ticket(alert)]}


@case(2200, every=4, near="AskBudgetBurn", apis=1, workers=1, edges=0, name="the budget of ask burns for days")
def days(it):
    """Not fast enough for the windows of a day: the budget of three days is used up after 29 hours."""
    going_wrong("ask", 2.5 * 0.001)(it, 10, 1900)
    return {1000: [], 1500: [], 1880: [ticket("AskBudgetBurn")], 2190: []}


@case(300, near="AskBudgetBurn", every=2, apis=1, workers=1, edges=0)
def fewer_than_a_hundred_questions_are_no_burn(it):
    going_wrong("ask", 1)(it, 0)
    for status in (200, 304):
        it.apis[0].requests(ASK, status, 0)
    it.apis[0].requests(ASK, 503, 0.25)
    # 30 an hour: the first hundred are reached in the fourth, and only in the window of six.
    return {60: [], 120: [], 180: [], 198: [], 220: [page("AskBudgetBurn"), ticket("AskBudgetBurn")]}


@case(60, workers=1, edges=0, apis=1)
def no_question_was_ever_answered(it):
    """There is no series of good ones."""
    api = it.apis[0]
    for key in [key for key in api.counters if ("route", "/multivac") in key[1]]:
        api.counters.pop(key)
    api.requests(ASK, 500, 20)
    return {10: [page("AskBudgetBurn")], (10, "multivac:ask:error_ratio_5m"): [1]}


@case(90, near="AskBudgetBurn FeedBudgetBurn AnswerableBudgetBurn RetractionBudgetBurn")
def nobody_asks_for_anything(it):
    for api in it.apis:
        for name in [key for key in api.counters if key[0].startswith(("multivac_http", "multivac_answerable"))]:
            api.counters[name] = [0] * api.ticks
    return {
        90: [],
        (90, 'count({__name__=~"multivac:.+:error_ratio_.+"})'): [],
        (90, 'count({__name__=~"multivac:.+:budget_left_28d"})'): [],
        (90, "multivac:ask:events_1h"): [0],
    }


@case(180, near="StoreUnreachable")
def the_store_is_away_again_and_again(it):
    """Never long enough to be called unreachable; but no outage that had an alert excuses what is lost."""
    for minute in range(60, 120, 5):
        mongodb_is_away(it, minute, minute + 0.5)
    burns = [page(f"{name}BudgetBurn") for name in ("Ask", "Answerable", "Retraction")]
    return {59: [], 74: burns, 89: burns}


@case(120, every=1)
def what_the_recorded_figures_say(it):
    going_wrong("feed", 0.01)(it, 60)
    return {
        (59, "multivac:feed:error_ratio_1h"): [0],
        (110, "round(multivac:feed:error_ratio_30m, 0.0001)"): [0.01],
        (110, "round(multivac:feed:burn_rate_30m, 0.01)"): [2],
        (110, "multivac:feed:events_1h"): [240 * TRAFFIC],
        # An hour without errors and, by then, none of the next: the budget is summed by whole hours.
        (59, "multivac:feed:budget_left_28d"): [],
    }
