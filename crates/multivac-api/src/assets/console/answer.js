
// --- an answer, as it is shown ---------------------------------------------------------------------------------------------------

// A text as a pattern of itself. A hyphen or a slash means nothing special, and with the flag `u` may not be escaped.
const literally = text => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

// A text as nodes, with every one of `words` in it marked; a word counts only where it stands whole.
function marked(text, words) {
  if (!words?.length) return [text];
  const wanted = new Set(words), longest = Math.max(...words.map(word => word.length));
  const quoted = words.slice(0, 200).sort((a, b) => b.length - a.length).map(literally);
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${quoted.join("|")})(?![\\p{L}\\p{N}])`, "gu");
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(pattern)) {
    if (found[0].length > longest || !wanted.has(found[0])) continue;
    nodes.push(text.slice(end, found.index), el("mark", {}, found[0]));
    end = found.index + found[0].length;
  }
  return [...nodes, text.slice(end)];
}

// Where `sentence` stands in `passage`: an answer has one space where its passage may have any white space.
function place(passage, sentence) {
  const words = sentence.split(/\s+/).map(literally);
  const found = new RegExp(words.join("\\s+"), "u").exec(passage);
  return found && { start: found.index, end: found.index + found[0].length };
}

const CONTEXT = 260;
const clipStart = (text, length) => {
  if (text.length <= length) return text;
  const cut = text.slice(-length), space = cut.search(/\s/);
  return `… ${cut.slice(space >= 0 && space < length / 2 ? space + 1 : 0).replace(/^[\uDC00-\uDFFF]/, "")}`;
};

// A bar from 0 to 100 % with a tick where answers begin.
function meter(confidence, threshold) {
  const answered = confidence >= threshold;
  const fill = el("span", { class: "fill" }), tick = el("span", { class: "tick" });
  fill.style.width = `${confidence * 100}%`;
  tick.style.left = `${threshold * 100}%`;
  const ofTen = Math.round(confidence * 10);
  const meaning = confidence >= 0.995 ? "practically certain" : confidence < 0.05 ? "hardly ever right" : `right about ${ofTen === 0 ? 1 : Math.min(ofTen, 9)} times in ten`;
  const relation = answered ? `answers begin at ${percent(threshold)}` : `short of the ${percent(threshold)} where answers begin`;
  return el("div", { class: `meter ${answered ? "" : "short"}` },
    el("p", {}, el("strong", {}, percent(confidence)), ` confidence: ${meaning}; ${relation}.`),
    el("div", {
      class: "track", role: "meter", "aria-label": "Confidence", "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": Math.round(confidence * 100), "aria-valuetext": `${percent(confidence)}; ${relation}`,
    }, fill, tick));
}

const STANCES = { agrees: "agrees", contradicts: "contradicts" };
const EXCERPT = 420;

function pieceOfEvidence(piece, isSource, retracted) {
  const passage = el("p", { class: "passage", dir: "auto" });
  const show = all => {
    const text = piece.passage;
    let shown = text;
    if (!all && text.length > EXCERPT * 1.3) {
      const first = piece.matched?.length ? Math.max(0, text.indexOf(piece.matched[0]) - EXCERPT / 3) : 0;
      const from = first > 40 ? Math.floor(first) : 0;
      shown = (from ? "… " : "") + clip(text.slice(from).replace(/^[\uDC00-\uDFFF]/, "").replace(from ? /^\S*\s/ : /^/, ""), EXCERPT);
    }
    passage.replaceChildren(...marked(shown, piece.matched));
    return shown !== text;
  };
  const isCut = show(false);
  const more = isCut && el("button", { class: "quiet small", type: "button", "aria-expanded": "false", click: event => {
    const open = event.currentTarget.getAttribute("aria-expanded") !== "true";
    event.currentTarget.setAttribute("aria-expanded", open);
    event.currentTarget.textContent = open ? "Show less" : `Show all ${number(piece.passage.length)} characters`;
    show(open);
  } }, `Show all ${number(piece.passage.length)} characters`);
  const when = el("span", { class: "when" });
  const share = el("span", { class: "score" }, el("span", { class: "unseen" }, "score "), percent(piece.score));
  const item = el("li", { "data-id": piece.id, class: piece.stance === "contradicts" ? "against" : "" },
    el("div", { class: "about" },
      share,
      isSource && el("span", { class: "badge source" }, "the answer"),
      piece.stance && el("span", { class: `badge ${piece.stance}` }, STANCES[piece.stance]),
      when,
      el("code", { class: "id" }, piece.id)),
    passage,
    el("div", { class: "row" }, more, takeBack(piece.id, retracted)));
  return { item, when, id: piece.id };
}

// --- taking back -------------------------------------------------------------------------------------------------------------------

// A button that asks first, does it, and says what came of it.
function takeBack(id, retracted) {
  const said = el("span", { class: "outcome", role: "status" });
  const box = el("span", { class: "take-back row" });
  const idle = () => el("button", { class: "quiet small danger", type: "button", click: ask }, "Take it back …");
  function ask() {
    const keepIt = el("button", { class: "small", type: "button", click: () => { reset().focus(); } }, "Keep it");
    const go = el("button", { class: "small danger", type: "button", click: retract }, "Take it back for good");
    box.replaceChildren(el("span", { class: "warning" }, "The whole datum goes, and cannot be had back."), go, keepIt);
    keepIt.focus();
    box.onkeydown = event => { if (event.key === "Escape") reset().focus(); };
  }
  function reset(words = "", isError = false) {
    const button = idle();
    said.textContent = words;
    said.classList.toggle("error", isError);
    box.onkeydown = null;
    box.replaceChildren(button, said);
    return button;
  }
  async function retract() {
    box.replaceChildren(said);
    said.classList.remove("error");
    said.textContent = "Taking it back …";
    // Where one was, so that a keyboard does not begin at the top of the page again.
    said.tabIndex = -1;
    said.focus();
    try {
      const reply = await authorised(`/multivac/data/${id}`, { method: "DELETE" });
      if (reply.status === 202) {
        const left = reply.body.replicas?.length ?? 0;
        said.textContent = `Taken back for good; ${many(left, "replica has", "replicas have")} not said yet that they have seen it.`;
        await everywhere(id);
      }
      said.textContent = "Taken back. No answer rests on it any more.";
      retracted?.(id);
    } catch (error) {
      if (error.status === 404) {
        said.textContent = "There is no such datum (any more).";
        retracted?.(id);
      } else reset(`Not taken back: ${needsSignIn(error)}`, true).focus();
    }
  }
  reset();
  return box;
}

// Until no replica may answer with a retracted datum.
async function everywhere(id) {
  for (let tries = 1; ; tries++) {
    await pause(backoff(tries, null, 10));
    const reply = await call(`/multivac/data/${id}`).catch(() => null);
    if (reply && !reply.body.visible_to) return;
  }
}

// When a datum was accepted does not change, so it is asked for once; of the last thousand.
const received = new Map();
async function receivedAt(id) {
  if (!received.has(id)) {
    if (received.size > 1000) received.delete(received.keys().next().value);
    received.set(id, call(`/multivac/data/${id}`).then(reply => reply.body.received_at));
    received.get(id).catch(() => received.delete(id));
  }
  return received.get(id);
}
