
// --- the page as a whole -----------------------------------------------------------------------------------------------------------------

const VIEWS = ["ask", "feed", "watch"];
const streams = { main: { isLive: false } };

function showTitle() {
  const view = VIEWS.find(view => !at(`view-${view}`).hidden);
  const name = { ask: asking.question ? clip(asking.question, 60) : "Ask", feed: "Feed", watch: "Watch" }[view];
  document.title = `${name} – MultiVAC`;
}

// Shows what the address names. Called when somebody follows a link, or goes back or forward.
function route(isFirst) {
  // With a slash, lest it be the id of an element that the browser scrolls to.
  const hash = location.hash.replace(/^#\/?/, ""), isQuestion = hash.startsWith("q=");
  let question = null;
  if (isQuestion) {
    let text = hash.slice(2).replace(/\+/g, " ");
    try { text = decodeURIComponent(text); } catch { /* Somebody has typed it: as it stands. */ }
    question = text.trim().slice(0, 1000).replace(/[\uD800-\uDBFF]$/, "") || null;
  }
  const view = isQuestion ? "ask" : VIEWS.find(view => view === hash) ?? (hash ? null : "ask");
  if (view === null && !isFirst) return;
  const shown = view ?? "ask", wasHidden = at(`view-${shown}`).hidden;
  for (const other of VIEWS) {
    at(`view-${other}`).hidden = other !== shown;
    const link = document.querySelector(`nav [data-view="${other}"]`);
    if (other === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown === "ask") {
    if (question !== (at("question").value.trim() || null)) at("question").value = question ?? "";
    asking.typed = false;
    if (question !== asking.question || !at("retry").hidden) ask(question);
    // While nobody looked, it was not asked again.
    else if (wasHidden && asking.reply) ask(question, { quietly: true });
  }
  // The "Ask" of the navigation leads back to the question that was asked.
  document.querySelector("nav [data-view=ask]").href = fragment(asking.question ?? null);
  showTitle();
  operator.update();
  if (shown === "watch") showRates();
  if (!isFirst && wasHidden) {
    window.scrollTo(0, 0);
    at(`title-${shown}`).focus();
  }
}
window.addEventListener("hashchange", () => route(false));
at("skip").onclick = event => { event.preventDefault(); at("main").focus(); };

// --- the line to MultiVAC ------------------------------------------------------------------------------------------------------------------

const LINK = { connecting: "Connecting", live: "Live", waiting: "Reconnecting", refused: "Not live", paused: "Paused" };
let isFresh = true;
const main = watchedRow(null);
watched.set(null, main);

function showLink(state, failure) {
  const isLive = state === "live", offline = navigator.onLine === false;
  const words = offline ? "Offline" : LINK[state];
  at("link").dataset.state = offline ? "waiting" : state;
  at("link").title = failure?.message ?? "";
  if (at("link-said").textContent !== words) at("link-said").textContent = words;
  const down = state === "waiting" || state === "refused";
  say("watch-note", down ? `Not live: ${sentence(failure.message)} What is shown is what was known last.` : "");
  at("view-watch").classList.toggle("stale", down);
  if (!isLive) isFresh = true;
  streams.main.isLive = isLive;
}

streams.main.stream = listen("/multivac/events", {
  event: (name, value) => {
    if (name === "stats") {
      count("stats", value, isFresh);
      isFresh = false;
      ledger.set(value);
    } else if (name === "answer") {
      asking.standing = value.question;
      at("question").placeholder = value.question;
      showWatched(main, value);
      if (asking.question === null) dataChanged(true);
    }
  },
  state: (state, failure) => {
    showLink(state, failure);
    if (state === "live") {
      if (session.state === "unknown") findOut();
      // The answer that could not be had is asked for again at once.
      if (!at("retry").hidden) ask(asking.question);
    } else if (state === "waiting" || state === "refused") readOnce();
  },
});

// Where there are no events, the ledger is read each time they are tried.
async function readOnce() {
  const reply = await call("/multivac/stats", { timeout: 10_000 }).catch(() => null);
  if (reply) { count("stats", reply.body, isFresh); ledger.set(reply.body); }
  if (main.shown) return;
  const answer = await call("/multivac", { headers: { Accept: "application/json" }, timeout: 10_000 }).catch(() => null);
  if (answer && !main.shown) showWatched(main, answer.body);
}

for (const question of kept(forGood, "watched", [])) {
  if (typeof question === "string" && watched.size <= mostWatched()) watch(question);
}
setInterval(tick, 1000);
showRecent();
findOut();
route(true);
