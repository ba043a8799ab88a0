
// --- the operator's part: dead letters, replicas, workers, the queue -----------------------------------------------------------------------

const DEAD = 20;
const deadLetters = {
  next: null,
  timer: 0,
  changed() {
    clearTimeout(this.timer);
    if (at("view-watch").hidden || !session.mayRead) return;
    this.timer = setTimeout(() => this.load(), 300);
  },
  async load(after) {
    try {
      const { body } = await authorised(`/multivac/dead?${new URLSearchParams({ limit: after ? DEAD : Math.min(100, Math.max(DEAD, at("dead").children.length)), ...(after && { after }) })}`);
      this.next = body.next ?? null;
      const rows = body.dead.map(letter => deadRow(letter));
      // What somebody has open, or is at, stays as it is.
      const focused = document.activeElement, wasInList = at("dead").contains(focused), wasAtMore = focused === at("dead-more");
      const open = new Map([...at("dead").children].filter(item => item.querySelector("details")?.open || item.contains(focused)).map(item => [item.dataset.id, item]));
      const items = rows.map(row => open.get(row.dataset.id) ?? row);
      if (after) at("dead").append(...items);
      else at("dead").replaceChildren(...items);
      this.show(at("dead").children.length ? "" : "None. Every datum that was accepted has been learned, or is on its way.");
      if (wasInList) (at("dead").contains(focused) ? focused : at("title-watch")).focus();
      else if (wasAtMore && at("dead-more").hidden) (items[0]?.querySelector("summary") ?? at("title-watch")).focus();
    } catch (error) {
      if (error.status === 401) return;
      this.show(error.status === 404 ? "This version of MultiVAC does not show them here." : `They cannot be read: ${error.message}`);
    }
  },
  show(words) {
    const some = at("dead").children.length > 0;
    at("dead-said").textContent = words;
    at("retry-all").hidden = !some;
    at("dead-more").hidden = !some || !this.next;
  },
};

function deadRow(letter) {
  const text = el("div", { class: "text" }), said = el("span", { class: "outcome", role: "status" });
  const attempts = many(letter.attempts, "attempt", "attempts");
  const row = el("div", { class: "row" });
  const details = el("details", { toggle: () => details.open && !text.childElementCount && showText(letter, text) },
    el("summary", {},
      el("span", { class: "error", dir: "auto" }, clip(letter.error || "unknown error", 200)),
      el("span", { class: "hint" }, `${attempts}, ${bytes(letter.size_bytes)}, given up `, time(letter.died_at), " ", el("code", { class: "id" }, letter.id))),
    text, row);
  const item = el("li", { "data-id": letter.id }, details);
  const act = (words, path, method, done) => async () => {
    said.classList.remove("error");
    said.textContent = words;
    try {
      await authorised(path, { method });
      removeDead(item, done);
    } catch (error) {
      if (error.status === 404) return removeDead(item, "It is not among the dead letters any more.");
      said.textContent = sentence(needsSignIn(error));
      said.classList.add("error");
    }
  };
  function idle() {
    row.onkeydown = null;
    row.replaceChildren(
      el("button", { class: "small", type: "button", click: act("Putting it back …", `/multivac/dead/${letter.id}/retry`, "POST", "It is back on the queue.") }, "Retry"),
      el("button", { class: "small danger quiet", type: "button", click: confirmDrop }, "Drop …"), said);
  }
  const keepLetter = () => { idle(); row.querySelector(".danger").focus(); };
  function confirmDrop() {
    const keepIt = el("button", { class: "small", type: "button", click: keepLetter }, "Keep it");
    row.replaceChildren(el("span", { class: "warning" }, "It is gone for good then."),
      el("button", { class: "small danger", type: "button", click: act("Dropping it …", `/multivac/dead/${letter.id}`, "DELETE", "It is dropped.") }, "Drop it"), keepIt, said);
    row.onkeydown = event => { if (event.key === "Escape") keepLetter(); };
    keepIt.focus();
  }
  idle();
  return item;
}
function removeDead(item, words) {
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  deadLetters.show(words);
  (next?.querySelector("summary") ?? at("title-watch")).focus();
}
async function showText(letter, box) {
  box.replaceChildren(el("p", { class: "hint" }, "Reading …"));
  try {
    const { body } = await authorised(`/multivac/dead/${letter.id}`);
    box.replaceChildren(el("pre", { dir: "auto", tabindex: 0, role: "group", "aria-label": "Its text" }, clip(body.data, 10_000)), body.error && body.error.length > 200 && el("p", { class: "error" }, body.error));
  } catch (error) {
    box.replaceChildren(el("p", { class: "error" }, sentence(needsSignIn(error))));
  }
}
at("dead-more").onclick = () => deadLetters.load(deadLetters.next);
at("retry-all").onclick = async () => {
  at("dead-said").textContent = "Putting them back …";
  try {
    const { body } = await authorised("/multivac/dead/retry", { method: "POST" });
    const wasHere = document.activeElement === at("retry-all");
    at("dead").replaceChildren();
    deadLetters.show(`${data(body.retried)} back on the queue.`);
    if (wasHere) at("title-watch").focus();
  } catch (error) {
    at("dead-said").textContent = `Not put back: ${sentence(needsSignIn(error))}`;
  }
};

// --- replicas and workers --------------------------------------------------------------------------------------------------------------

function table(caption, heads, rows) {
  return el("table", {}, el("caption", { class: "unseen" }, caption), el("thead", {}, el("tr", {}, ...heads.map(head => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(cells => el("tr", {}, ...cells.map(cell => el("td", {}, cell))))));
}
const lamp = (isGood, words) => el("span", { class: `lamp ${isGood ? "good" : "error"}` }, el("span", { class: "dot", "aria-hidden": "true" }), words);

function showSystem(told) {
  system.replicas = told.replicas.length;
  at("version").textContent = told.version ? `MultiVAC ${told.version}` : "";
  const short = id => el("code", { class: "id", title: id }, clip(id, 24));
  at("replicas").replaceChildren(told.replicas.length
    ? table("Replicas of the api", ["Replica", "Version", "State"], told.replicas.map(replica => [short(replica.id), replica.version ?? "unknown", replica.answering ? lamp(true, "answering") : lamp(false, "not answering")]))
    : el("p", { class: "empty" }, "No replica has told of itself."));
  at("workers").replaceChildren(told.workers.length
    ? table("Workers", ["Worker", "Version", "Asked for work"], told.workers.map(worker => [short(worker.name), worker.version ?? "unknown", worker.idle_seconds < 5 ? lamp(true, "just now") : `${span(worker.idle_seconds)} ago`]))
    : el("p", { class: "empty" }, told.embedded ? "The worker is inside this process." : "No worker is at work: what is accepted waits in the queue."));
  const { queue } = told, of = queue.limit ? ` of ${number(queue.limit)}` : "";
  const age = queue.oldest_seconds === null || queue.oldest_seconds === undefined ? "" : `, the oldest for ${span(queue.oldest_seconds)}`;
  const held = queue.limit_bytes ? `; ${bytes(queue.bytes ?? 0)} of ${bytes(queue.limit_bytes)}` : "";
  say("queue-said", `The queue holds ${number(queue.unfinished)}${of} data${age}${held}.`);
}

// Opened for who looks at it and may.
const operator = {
  stream: null,
  isFresh: true,
  update() {
    const wanted = !at("view-watch").hidden && session.mayRead;
    if (wanted && !this.stream) {
      this.isFresh = true;
      this.stream = listen("/multivac/system", {
        event: (name, told) => {
          if (name !== "system") return;
          count("system", told, this.isFresh);
          this.isFresh = false;
          showSystem(told);
        },
        state: (state, failure) => {
          if (state === "waiting" || state === "refused") this.isFresh = true;
          if (failure?.status === 401) session.heard(failure);
          else if (failure && !at("replicas").childElementCount) this.empty(failure.status === 404 ? "This version of MultiVAC does not tell." : sentence(failure.message));
          for (const id of ["replicas", "workers"]) at(id).classList.toggle("stale", state === "waiting" || state === "refused");
        },
      });
      deadLetters.load();
    } else if (!wanted && this.stream) {
      this.stream.stop();
      this.stream = null;
    }
    if (session.state === "out") {
      at("dead").replaceChildren();
      say("queue-said", "");
      deadLetters.show("Sign in to see them.");
      this.empty("Sign in to see them.");
    }
  },
  empty(words) {
    for (const id of ["replicas", "workers"]) at(id).replaceChildren(el("p", { class: "empty" }, words));
  },
};
session.changed.add(() => operator.update());
