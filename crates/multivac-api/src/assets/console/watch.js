
// --- watch: what the events tell ----------------------------------------------------------------------------------------------------------

const ledger = {
  stats: null,
  waiting: [],
  // Resolves when the ledger has moved.
  next() {
    return new Promise(resolve => this.waiting.push(resolve));
  },
  set(stats) {
    const was = this.stats;
    this.stats = stats;
    showLedger(stats);
    for (const resolve of this.waiting.splice(0)) resolve();
    if (was && (was.learned !== stats.learned || was.retracted !== stats.retracted)) dataChanged();
    if (was && was.dead !== stats.dead) deadLetters.changed();
  },
};

// Accepted is what became of it all, always; the page adds it up rather than take it on trust.
const PARTS = ["queued", "processing", "learned", "retracted", "dead"];
function showLedger(stats) {
  const term = (name, sign) => el("div", { class: `term ${name}` }, sign && el("span", { class: "sign", "aria-hidden": "true" }, sign), el("dt", {}, name), el("dd", {}, number(stats[name])));
  at("stats").replaceChildren(term("accepted"), ...PARTS.map((name, index) => term(name, index ? "+" : "=")));
  const sum = PARTS.reduce((sum, name) => sum + stats[name], 0), balanced = sum === stats.accepted;
  at("shares").replaceChildren(...PARTS.filter(name => stats[name]).map(name => {
    const share = el("span", { class: name });
    share.style.flexGrow = stats[name] / Math.max(1, sum);
    return share;
  }));
  at("balance").className = `balance ${balanced ? "good" : "error"}`;
  at("balance").textContent = balanced
    ? `It balances: ${number(stats.accepted)} = ${number(sum)}. ${many(stats.passages, "passage", "passages")} to answer from.`
    : `It does not balance: ${number(stats.accepted)} accepted, ${number(sum)} accounted for.`;
  at("dead-count").textContent = stats.dead ? number(stats.dead) : "";
}

const system = { replicas: 1 };

// --- rates ----------------------------------------------------------------------------------------------------------------------------------

const SECONDS = 120;
const rates = [
  { name: "Accepted", unit: "a second", count: "accepted" },
  { name: "Learned", unit: "a second", count: "learned" },
  { name: "Questions", unit: "a second", count: "questions", source: "system", note: "of the replica that this page talks to" },
  { name: "In the queue", unit: "", level: stats => stats.queued + stats.processing },
].map(rate => ({ ...rate, past: [], sum: 0, carried: 0, last: null }));

// Counts that were read; `isFresh` when nothing is known of the time before.
function count(source, counts, isFresh) {
  for (const rate of rates) {
    if (rate.level || (rate.source ?? "stats") !== source) continue;
    const now = counts[rate.count];
    if (now === undefined) continue;
    if (rate.last !== null && !isFresh) {
      // The system tells every two seconds, so what it tells belongs to two.
      const more = Math.max(0, now - rate.last), half = source === "system" ? more / 2 : 0;
      rate.sum += more - half;
      rate.carried += half;
    }
    rate.last = now;
  }
}
function tick() {
  for (const rate of rates) {
    const isKnown = rate.level ? ledger.stats : rate.last !== null;
    rate.past.push(!isKnown || !streams.main.isLive ? null : rate.level ? rate.level(ledger.stats) : rate.sum);
    [rate.sum, rate.carried] = [rate.carried, 0];
    if (rate.past.length > SECONDS) rate.past.shift();
  }
  if (!at("view-watch").hidden && !document.hidden) showRates();
}

function showRates() {
  at("rates").replaceChildren(...rates.filter(rate => rate.level || rate.past.some(value => value !== null)).map(rate => {
    const known = rate.past.filter(value => value !== null), most = Math.max(0, ...known);
    // What comes at most once a second falls now and then into the second beside its own.
    const recent = known.slice(-5), now = rate.level ? known.at(-1) : recent.reduce((sum, value) => sum + value, 0) / (recent.length || 1);
    const said = known.length ? `${number(now < 10 ? Math.round(now * 10) / 10 : Math.round(now))}` : "–";
    const words = `${rate.name} ${rate.unit}: now ${said}, ${number(most)} at most in the last two minutes`.replace(" :", ":");
    return el("figure", {},
      el("figcaption", {}, `${rate.name} ${rate.unit}`), el("strong", {}, said),
      svg("svg", { viewBox: `0 0 ${SECONDS} 40`, preserveAspectRatio: "none", role: "img", "aria-label": words }, ...lines(rate.past, most)),
      el("span", { class: "hint" }, `at most ${number(most)}${rate.note && system.replicas > 1 ? `, ${rate.note}` : ""}`));
  }));
}
function lines(past, most) {
  const x = index => SECONDS - past.length + index + 1, y = value => 38 - (most ? value / most : 0) * 35;
  const parts = [];
  let points = [];
  const close = () => {
    if (points.length > 1) {
      const [first, last] = [points[0][0], points.at(-1)[0]], path = points.map(([a, b]) => `${a},${b.toFixed(1)}`).join(" ");
      parts.push(svg("polygon", { points: `${first},40 ${path} ${last},40` }), svg("polyline", { points: path }));
    }
    points = [];
  };
  past.forEach((value, index) => { if (value === null) close(); else points.push([x(index), y(value)]); });
  close();
  return parts;
}

// --- the questions that are watched ------------------------------------------------------------------------------------------------------------

// Each takes a stream of its own. Over HTTP/1.1 a browser has six connections to a server.
const isShared = () => /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol ?? "");
const mostWatched = () => (isShared() ? 8 : 2);
const CHANGES = 20;
const watched = new Map();

function watchedRow(question) {
  const parts = {
    asked: el("h3", { dir: "auto" }, question ?? "The standing question"), answer: el("p", { class: "answer", dir: "auto" }, "…"),
    meter: el("div"), changed: el("p", { class: "changed hint" }), log: el("ol", { tabindex: 0, "aria-label": "Changes, the last one first" }), state: el("p", { class: "note warn", hidden: true }),
  };
  parts.more = el("details", { hidden: true }, el("summary", {}, "Changes since this page was opened"), parts.log);
  const item = el("li", {},
    el("div", { class: "row spread" }, parts.asked, question !== null && el("button", { class: "quiet small", type: "button", "aria-label": `Watch no longer: ${question}`, click: () => unwatch(question) }, "Watch no longer")),
    parts.state, parts.answer, parts.meter, parts.changed, parts.more);
  at("watched").append(item);
  return { question, item, parts, shown: null, heardAt: null };
}

const said = answer => (answer.answer === null ? INSUFFICIENT : answer.answer);
// Whose part it was that the answer changed.
const reason = because => (because
  ? [because.kind === "retracted" ? "since a datum was taken back: " : "since a datum was learned: ", el("code", { class: "id" }, because.id)]
  : ["it is not known which datum tipped it"]);

function showWatched(row, answer) {
  const { parts } = row, now = new Date();
  parts.asked.textContent = answer.question;
  parts.answer.replaceChildren(...(answer.answer === null ? [INSUFFICIENT] : marked(answer.answer, answer.evidence[0]?.matched)));
  parts.answer.classList.toggle("insufficient", answer.answer === null);
  parts.meter.replaceChildren(answer.threshold === undefined ? "" : meter(answer.confidence, answer.threshold));
  const before = answer.before ?? row.shown;
  // Who was away for longer than the server remembers gets the present state, and not when it came to that.
  const missed = !answer.before && row.shown ? row.heardAt : null;
  row.heardAt = now;
  // Who comes back gets the present state again, which need not be a change.
  const isChange = before && (said(before) !== said(answer) || Boolean(answer.because));
  row.shown = answer;
  if (!isChange) {
    if (!parts.log.children.length) parts.changed.textContent = `So since ${clock(now)} at least, when this page began to watch.`;
    return;
  }
  const sameWords = said(before) === said(answer);
  const stamp = date => el("time", { datetime: date.toISOString(), title: date.toLocaleString() }, clock(date));
  const moment = missed ? el("span", {}, "some time between ", stamp(missed), " and ", stamp(now)) : stamp(now);
  parts.changed.replaceChildren(sameWords ? "Confirmed anew" : "Changed", missed ? " " : " at ", moment, ", ", ...reason(answer.because));
  parts.log.prepend(el("li", {}, moment.cloneNode(true), missed ? ": " : " ",
    sameWords ? `confidence ${percent(before.confidence)} → ${percent(answer.confidence)}` : el("span", { dir: "auto" }, clip(said(before), 160), " → ", el("b", {}, clip(said(answer), 160))),
    ", ", ...reason(answer.because)));
  while (parts.log.children.length > CHANGES) parts.log.lastElementChild.remove();
  parts.more.hidden = false;
  row.item.classList.remove("new");
  void row.item.offsetWidth;
  row.item.classList.add("new");
  if (!sameWords) announce(`The answer to “${answer.question}” has changed: ${said(answer)}`);
}

// At most once in five seconds, and the last one then: what changes fast is not read out.
let announced = 0, announcing;
function announce(words) {
  clearTimeout(announcing);
  announcing = setTimeout(() => { announced = Date.now(); at("watched-said").textContent = words; }, Math.max(0, announced + 5000 - Date.now()));
}

function watch(question) {
  if (watched.has(question)) return watched.get(question);
  const row = watchedRow(question);
  watched.set(question, row);
  row.stream = listen(`/multivac/events?${new URLSearchParams({ question })}`, {
    event: (name, answer) => { if (name === "answer") showWatched(row, answer); },
    state: (state, failure) => {
      const words = { waiting: `Not live: ${failure?.message} It is tried again by itself.`, refused: `Not watched: ${failure?.message}` }[state];
      row.parts.state.textContent = words ?? "";
      row.parts.state.hidden = !words;
      row.item.classList.toggle("stale", Boolean(words));
    },
  });
  return row;
}
function keepWatched() {
  keep(forGood, "watched", [...watched.keys()].filter(question => question !== null));
}
function watchAnew(question) {
  const others = watched.size - 1;
  if (!question) return;
  if (!watched.has(question) && others >= mostWatched()) {
    at("watched-said").textContent = `${many(others, "question is", "questions are")} watched already, the most for this connection: watch one no longer first.`;
    return;
  }
  watch(question);
  keepWatched();
  at("watched-said").textContent = `Watching “${question}”.`;
}
function unwatch(question) {
  const row = watched.get(question);
  row.stream.stop();
  row.item.remove();
  watched.delete(question);
  keepWatched();
  at("watched-said").textContent = `“${question}” is watched no longer.`;
  at("watch-question").focus();
}
at("watch").onsubmit = event => {
  event.preventDefault();
  const question = at("watch-question").value.trim();
  watchAnew(question);
  if (watched.has(question)) at("watch-question").value = "";
};
at("watch-this").onclick = () => {
  if (asking.question) watchAnew(asking.question);
  location.hash = "#/watch";
};
