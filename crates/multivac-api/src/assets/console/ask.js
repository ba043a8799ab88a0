
// --- ask -----------------------------------------------------------------------------------------------------------------------------
// The question is in the address's fragment, which no browser sends to a server: neither the server's log nor a proxy's has it.

const TYPING = 200;
// After so long, what stands there was meant: it is a step of the history, its evidence is dated, and a screen reader hears it.
const RESTING = 1200;
const RECENT = 20, RECENT_SHOWN = 6;

const asking = {
  // What the page shows or is about to show: null is the standing question.
  question: undefined,
  reply: null,
  standing: null,
  controller: null,
  timers: {},
  typed: false,
  // Whether the data have changed since, and when they are asked for again.
  behind: false,
  due: 0,
};
const questionPath = question => "/multivac" + (question ? `?${new URLSearchParams({ question })}` : "");
const fragment = question => (question ? `#q=${encodeURIComponent(question)}` : "#/ask");

function after(name, delay, then) {
  clearTimeout(asking.timers[name]);
  asking.timers[name] = setTimeout(then, delay);
}
function nothingLater() {
  asking.due = 0;
  for (const timer of Object.values(asking.timers)) clearTimeout(timer);
}

// Asks. The last question wins: an earlier call is aborted, and what it may still bring is not shown.
async function ask(question, { quietly = false, tries = 0 } = {}) {
  if (!quietly) nothingLater();
  asking.controller?.abort();
  const controller = asking.controller = new AbortController();
  const changed = asking.question !== question;
  asking.question = question;
  if (!quietly) {
    at("reply").setAttribute("aria-busy", "true");
    at("reply").classList.add("old");
    say("retry-said", "");
    // A reply takes some milliseconds. Where it takes longer, the answer before it goes: it is to another question.
    if (changed || !asking.reply) after("clear", asking.reply ? 120 : 0, () => showWaiting(question));
  }
  try {
    const { body, stale } = await call(questionPath(question), { headers: { Accept: "application/json" }, signal: controller.signal, timeout: 20_000 });
    if (controller !== asking.controller) return;
    if (!question) at("question").placeholder = asking.standing = body.question;
    if (quietly && asking.reply && isSame(asking.reply, { body, stale })) {
      asking.reply.body.learned = body.learned;
      at("searched").textContent = searched(body);
      say("stale", stale ? staleWords(stale) : "");
      return;
    }
    // Nothing is taken from under somebody's hands.
    if (quietly && at("evidence").querySelector(".warning")) {
      say("stale", "The data have changed since.");
      return after("refresh", 3000, () => ask(question, { quietly: true }));
    }
    clearTimeout(asking.timers.clear);
    const focused = document.activeElement?.closest("#evidence [data-id]")?.dataset.id;
    showAnswer(body, stale, question);
    if (focused) refocus(focused);
    if (stale) after("again", 5000, () => ask(question, { quietly: true }));
  } catch (error) {
    if (isAbort(error) || controller !== asking.controller) return;
    // A refresh that failed leaves what stands there, which is still the last answer; the header says that the line is down.
    if (quietly && asking.reply) return;
    clearTimeout(asking.timers.clear);
    showFailure(question, error);
    if (!error.passes) return;
    after("again", backoff(tries + 1, error.after) * 1000, () => ask(question, { tries: tries + 1 }));
    say("retry-said", "It is tried again by itself, too.");
  }
}

// Back to the same piece of evidence, if it is still there, or else to the answer.
function refocus(id) {
  const item = [...at("evidence").children].find(piece => piece.dataset.id === id);
  const target = item?.querySelector("button") ?? at("answer");
  if (target === at("answer")) target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

const searched = body => (body.learned ? `Out of ${data(body.learned)}.` : "No data have been learned yet. Feed some.");
const isSame = (one, other) => one.stale === other.stale
  && JSON.stringify({ ...one.body, learned: 0 }) === JSON.stringify({ ...other.body, learned: 0 });

function clearReply() {
  asking.reply = null;
  for (const id of ["before", "answer", "after", "confidence", "evidence", "searched"]) at(id).replaceChildren();
  for (const id of ["stale", "waiting", "missing"]) say(id, "");
  for (const id of ["whole", "retry", "evidence-part", "quote"]) at(id).hidden = true;
  at("answer").className = "answer";
  at("reply").classList.remove("old");
}

function showWaiting(question) {
  // The page must not jump while one types.
  at("reply").style.minHeight = `${Math.min(at("reply").offsetHeight, 480)}px`;
  clearReply();
  at("asked").textContent = question ?? asking.standing ?? "The standing question";
  at("waiting").hidden = false;
  at("waiting").replaceChildren(el("span", { class: "pulse", "aria-hidden": "true" }), el("span", {}, "Asking …"));
}

function showFailure(question, error) {
  clearReply();
  at("asked").textContent = question ?? asking.standing ?? "The standing question";
  at("quote").hidden = false;
  at("answer").textContent = error.message;
  at("answer").className = "answer error";
  at("retry").hidden = false;
  at("reply").setAttribute("aria-busy", "false");
  at("reply").style.minHeight = "";
  at("spoken").textContent = error.message;
}

function showAnswer(body, stale, question) {
  clearReply();
  asking.reply = { body, stale, question };
  const answered = body.answer !== null, [best] = body.evidence;
  at("asked").textContent = body.question;
  at("quote").hidden = false;
  say("stale", stale ? staleWords(stale) : "");
  if (answered) showPassage(body.answer, body.evidence.find(piece => place(piece.passage, body.answer)) ?? best);
  else at("answer").replaceChildren(INSUFFICIENT);
  at("answer").classList.toggle("insufficient", !answered);
  at("confidence").replaceChildren(body.threshold === undefined ? "" : meter(body.confidence, body.threshold));
  showMissing(body);
  at("evidence-part").hidden = !body.evidence.length;
  at("evidence-title").textContent = answered ? "Evidence" : "What came nearest";
  const pieces = body.evidence.map((piece, index) => pieceOfEvidence(piece, answered && index === 0, () => { if (asking.question === question) after("taken", 300, () => ask(question, { quietly: true })); }));
  at("evidence").replaceChildren(...pieces.map(piece => piece.item));
  at("searched").textContent = searched(body);
  at("reply").setAttribute("aria-busy", "false");
  at("reply").style.minHeight = "";
  after("rest", asking.typed ? RESTING : 0, () => rest(body, pieces));
}

const staleWords = warning => (/^110/.test(warning)
  ? "Perhaps not the latest: no replica answers, and this is the last answer that was given."
  : /^199/.test(warning) ? "Perhaps not the latest: the index is not filled yet." : `Perhaps not the latest: ${warning}`);

// The answer large, between what stands before and after it in its passage.
function showPassage(answer, piece) {
  const words = piece?.matched ?? [], where = piece && place(piece.passage, answer);
  at("answer").replaceChildren(...marked(answer, words));
  if (!where) return;
  const before = piece.passage.slice(0, where.start).trim(), following = piece.passage.slice(where.end).trim();
  const show = all => {
    at("before").replaceChildren(...marked(all ? before : clipStart(before, CONTEXT), words));
    at("after").replaceChildren(...marked(all ? following : clip(following, CONTEXT), words));
  };
  show(false);
  at("whole").hidden = before.length <= CONTEXT && following.length <= CONTEXT;
  at("whole").textContent = "Show the whole passage";
  at("whole").onclick = () => { show(true); at("whole").hidden = true; at("answer").setAttribute("tabindex", "-1"); at("answer").focus(); };
}

function showMissing(body) {
  const missing = body.missing ?? [];
  at("missing").hidden = body.answer !== null;
  if (body.answer !== null) return;
  at("missing").replaceChildren(...(missing.length
    ? ["No datum holds ", ...missing.flatMap((word, index) => [index ? ", " : "", el("b", { dir: "auto" }, word)]), "."]
    : [body.evidence.length ? "Each word is known, but no sentence says enough of what was asked." : "Nothing in the data is about this."]));
}

// When the answer stands still.
function rest(body, pieces) {
  at("spoken").textContent = body.answer === null
    ? `Insufficient data for meaningful answer. Confidence ${percent(body.confidence)}.`
    : `${body.answer} Confidence ${percent(body.confidence)}.`;
  commit();
  if (asking.behind) dataChanged();
  for (const { when, id } of pieces) receivedAt(id).then(moment => moment && when.replaceChildren("fed ", time(moment)), () => {});
}

// --- the address, the history and what was asked lately ----------------------------------------------------------------------------

// Typing changes the entry of the history that typing has begun; a question that is meant ends it.
function note(question) {
  if (location.hash === fragment(question)) return;
  if (asking.typed) history.replaceState(null, "", fragment(question));
  else history.pushState(null, "", fragment(question));
  asking.typed = true;
  showTitle();
}
function commit() {
  asking.typed = false;
  if (asking.question && asking.reply?.question === asking.question) remember(asking.question);
}
function remember(question) {
  const others = kept(forGood, "recent", []).filter(other => other !== question && !question.startsWith(other));
  keep(forGood, "recent", [question, ...others].slice(0, RECENT));
  showRecent();
}
function showRecent() {
  const recent = kept(forGood, "recent", []).filter(question => typeof question === "string");
  at("recent").hidden = !recent.length;
  at("recent-list").replaceChildren(...recent.slice(0, RECENT_SHOWN).map(question =>
    el("li", {}, el("a", { href: fragment(question), dir: "auto", title: question }, clip(question, 60)))));
}
at("recent-clear").onclick = () => { keep(forGood, "recent", undefined); showRecent(); at("question").focus(); };

function typed() {
  const question = at("question").value.trim() || null;
  clearTimeout(asking.timers.type);
  at("reply").classList.toggle("old", question !== asking.question);
  if (question === asking.question) return;
  after("type", TYPING, () => { note(question); ask(question); });
}
at("question").oninput = event => { if (!event.isComposing) typed(); };
at("question").addEventListener("compositionend", typed);
at("ask").onsubmit = event => {
  event.preventDefault();
  const question = at("question").value.trim() || null;
  note(question);
  asking.typed = false;
  const isUnderWay = question === asking.question && at("reply").getAttribute("aria-busy") === "true";
  if (!isUnderWay) ask(question);
};
at("retry-now").onclick = () => {
  // It stays while all else goes.
  at("asked").tabIndex = -1;
  at("asked").focus();
  ask(asking.question);
};
window.addEventListener("online", () => { if (!at("retry").hidden) ask(asking.question); });

at("copy-link").onclick = async () => {
  const link = new URL(fragment(asking.question), location).href;
  try {
    await navigator.clipboard.writeText(link);
    flash(at("copy-link"), "Copied");
  } catch {
    prompt("Copy this link:", link);
  }
};
function flash(button, words) {
  const was = button.dataset.words ??= button.textContent;
  button.textContent = words;
  setTimeout(() => { button.textContent = was; }, 1500);
}

// The data have changed: the answer may have. Called for every event, so it asks seldom, only for who looks, and not at the same
// moment as all other pages. The standing answer is told by an event of its own when it changes; only its evidence may be behind.
let refreshed = 0;
function dataChanged(isAnswer = false) {
  asking.behind = true;
  if (at("view-ask").hidden || document.hidden || !asking.reply || asking.typed) return;
  if (at("reply").getAttribute("aria-busy") === "true") return;
  asking.behind = false;
  const pace = asking.question === null && !isAnswer ? 30_000 : 2000;
  // Drawn once: the least of many draws would be next to nothing.
  if (!asking.due || (isAnswer && asking.due > Date.now() + 1000)) {
    const wait = Math.max(0, refreshed + pace - Date.now()) + Math.random() * 1000;
    asking.due = Date.now() + wait;
    after("refresh", wait, () => {
      [asking.due, refreshed] = [0, Date.now()];
      ask(asking.question, { quietly: true });
    });
  }
}
document.addEventListener("visibilitychange", () => { if (asking.behind && !document.hidden) dataChanged(); });
