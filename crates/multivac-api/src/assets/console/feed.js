
// --- feed --------------------------------------------------------------------------------------------------------------------------------

// One request has so many lines at most, so that a lost one costs little and each is one step for the server.
const BATCH_LINES = 500, BATCH_BYTES = 1 << 20;
const NAMED = 200;
// So many data are followed one by one; of more, their count.
const FOLLOWED = 12;
const SHOWN_FEEDINGS = 30;

// A row of "Fed from here".
function feeding(name) {
  const title = el("strong", { dir: "auto", tabindex: -1 }, name);
  const parts = {
    state: el("span", { class: "state" }), bar: el("progress", { max: 1, "aria-label": `Feeding ${name}` }), rate: el("span", { class: "rate" }),
    rejected: el("details", { class: "rejected", hidden: true }, el("summary"), el("ul", { tabindex: 0, "aria-label": "Rejected" })), note: el("p", { class: "hint", hidden: true }), row: el("div", { class: "row" }),
  };
  const item = el("li", { class: "card feeding" },
    el("div", { class: "row spread" }, title, parts.rate), parts.bar, parts.state, parts.note, parts.rejected, parts.row);
  parts.bar.hidden = true;
  at("feedings").prepend(item);
  at("feedings-none").hidden = true;
  while (at("feedings").children.length > SHOWN_FEEDINGS) {
    const last = at("feedings").lastElementChild;
    if (last.dataset.running) break;
    last.remove();
  }
  return {
    item, parts,
    state(words, kind = "") {
      if (parts.state.textContent !== words) parts.state.textContent = words;
      // How it ends is said, and that it waits; not each step of the way.
      if (kind && item.dataset.kind !== kind) at("feed-spoken").textContent = `${name}: ${words}`;
      item.dataset.kind = kind;
    },
    name(words) { name = title.textContent = words; parts.bar.setAttribute("aria-label", `Feeding ${name}`); },
    // Who was at one of them stays in this row.
    buttons(...buttons) {
      const wasHere = parts.row.contains(document.activeElement);
      parts.row.replaceChildren(...buttons);
      if (wasHere) (buttons[0] ?? title).focus();
    },
  };
}

// --- a text -------------------------------------------------------------------------------------------------------------------------

const FEEDING = "feeding …";
// A text that is sent again, since no reply came, is still one datum.
let sent = null;
function showFed(words, isError) {
  at("fed").textContent = words;
  at("fed").className = isError ? "error" : "";
  at("feeding").disabled = words === FEEDING;
}
async function feedText() {
  const text = at("data").value;
  if (!text.trim()) { showFed("There is nothing to feed yet.", true); return at("data").focus(); }
  if (sent?.text !== text) sent = { text, key: randomKey() };
  // Unless somebody has typed on.
  const done = () => { if (at("data").value === text) at("data").value = ""; sent = null; };
  showFed(FEEDING);
  running.add(FEEDING);
  try {
    if (tooLong(text)) { await feedFiles([new File([text], "pasted text.txt")], done, sent.key); return showFed(""); }
    const { body } = await authorised("/multivac/data", {
      method: "POST", headers: { "Content-Type": "text/plain", "Idempotency-Key": sent.key }, body: text,
    });
    showFed(body.response);
    done();
    const row = feeding(clip(text.trim().replace(/\s+/g, " "), 80));
    row.item.classList.add("one");
    follow(row, [body.id], 1, body.id);
  } catch (error) {
    const later = error.after ? ` Try again in ${span(error.after)}.` : "";
    showFed(`${needsSignIn(error)}${later}`, true);
  } finally {
    running.delete(FEEDING);
  }
}
at("feed").onsubmit = event => { event.preventDefault(); if (!at("feeding").disabled) feedText(); };
at("data").oninput = () => { if (!at("feeding").disabled) showFed(""); };
at("data").onkeydown = event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("feed").requestSubmit(); };

// --- files ----------------------------------------------------------------------------------------------------------------------------

const running = new Set();
window.addEventListener("beforeunload", event => {
  // The second is for browsers before 2023.
  if (running.size) { event.preventDefault(); event.returnValue = true; }
});

// Feeds files one after the other, in requests of bounded size, each with a key: sent again, it feeds nothing twice.
async function feedFiles(entries, onend, key = randomKey()) {
  const files = [], row = feeding(entries.length === 1 ? nameOf(entries[0]) : "Files");
  const stopping = new AbortController(), began = performance.now();
  const run = { row, key, batches: 0, total: 0, accepted: 0, rejections: 0, ids: [], last: null, read: 0, signal: stopping.signal, dead: ledger.stats?.dead ?? null };
  running.add(run);
  row.item.dataset.running = "yes";
  const cancel = el("button", { type: "button", class: "small", click: () => stopping.abort() }, "Cancel");
  row.buttons(cancel);
  run.show = (words, kind) => {
    const rate = run.accepted / Math.max(0.2, (performance.now() - began) / 1000);
    row.parts.bar.value = run.total ? Math.min(1, run.read / run.total) : 1;
    row.parts.rate.textContent = run.accepted ? `${number(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate))} data/s` : "";
    row.state(words ?? `${data(run.accepted)} accepted …`, kind);
  };
  run.reject = ({ name, line, rejected }) => {
    run.rejections++;
    const [summary, list] = row.parts.rejected.children;
    row.parts.rejected.hidden = false;
    summary.textContent = `${number(run.rejections)} rejected${run.rejections > NAMED ? `; the first ${number(NAMED)} of them` : ""}`;
    if (run.rejections <= NAMED) list.append(el("li", {}, el("b", { dir: "auto" }, line ? `${name}, line ${number(line)}` : name), `: ${rejected}`));
  };
  run.split = (file, parts) => {
    run.splits = [...run.splits ?? [], `${clip(nameOf(file), 60)} in ${number(parts)} parts`];
    row.parts.note.hidden = false;
    row.parts.note.textContent = `Over ${bytes(MAX_DATUM)}, so fed in parts, cut at paragraphs: ${run.splits.slice(0, 5).join(", ")}${run.splits.length > 5 ? ` and ${number(run.splits.length - 5)} more` : ""}.`;
  };
  row.state("Looking for files …");
  try {
    for await (const file of filesIn(entries)) {
      if (stopping.signal.aborted) break;
      if (file.rejected) { run.reject(file); continue; }
      run.total += file.size;
      if (files.push(file) % 100 === 0) row.state(`Looking for files … ${number(files.length)} so far.`);
    }
    if (entries.length > 1 || files.length > 1) row.name(files.length === 1 ? nameOf(files[0]) : `${number(files.length)} files, ${bytes(run.total)}`);
    row.parts.bar.hidden = false;
    run.show("Reading …");
    const batches = batchesOf(files, run);
    // The next batch is made while this one is under way.
    for (let next = batches.next(); ;) {
      const { done, value: batch } = await next;
      if (done) break;
      next = batches.next();
      next.catch(() => {});
      await sendBatch(batch, run, cancel);
      run.show();
    }
    if (stopping.signal.aborted) throw new DOMException("cancelled", "AbortError");
    row.parts.bar.hidden = true;
    row.buttons();
    run.show(`${data(run.accepted)} accepted.`);
    if (run.accepted) follow(row, run.ids, run.accepted, run.last, run.dead);
    else row.state(run.rejections ? "Nothing was accepted." : "There was nothing in it.", "error");
    onend?.();
  } catch (error) {
    row.parts.bar.hidden = true;
    row.buttons();
    if (isAbort(error)) row.state(`Cancelled. ${data(run.accepted)} accepted before that${run.inFlight ? ", and perhaps those that were under way" : ""}.`, "warn");
    else row.state(`${error.message} ${data(run.accepted)} accepted before that.`, "error");
  } finally {
    running.delete(run);
    delete row.item.dataset.running;
  }
}

async function* batchesOf(files, run) {
  let batch = { lines: [], places: [], size: 0 };
  for (const file of files) {
    for await (const piece of piecesOf(file, count => { run.read += count; }, parts => run.split(file, parts))) {
      if (run.signal.aborted) return;
      if (piece.rejected) { run.reject(piece); continue; }
      const line = JSON.stringify({ data: piece.data });
      if (batch.lines.length && (batch.lines.length >= BATCH_LINES || batch.size + line.length > BATCH_BYTES)) {
        yield batch;
        batch = { lines: [], places: [], size: 0 };
      }
      batch.lines.push(line);
      batch.places.push(piece);
      batch.size += line.length;
    }
  }
  if (batch.lines.length) yield batch;
}

// What the queue could not take now, it may take later; sent again with its key, the rest of the batch is not fed twice.
const mayPass = line => /queue|durable|not tried/.test(line.detail);

async function sendBatch(batch, run, cancel) {
  const body = `${batch.lines.join("\n")}\n`, key = `${run.key}-${++run.batches}`;
  for (let tries = 1; ; tries++) {
    let failure;
    try {
      run.inFlight = true;
      const { body: reply } = await authorised("/multivac/data/bulk", {
        method: "POST", headers: { "Content-Type": "application/x-ndjson", "Idempotency-Key": key }, body, signal: run.signal, timeout: 120_000,
      });
      const left = reply.rejected.filter(mayPass);
      if (!left.length && !reply.next_line) {
        run.inFlight = false;
        run.accepted += reply.accepted;
        run.last = reply.ids.at(-1) ?? run.last;
        if (run.ids.length < FOLLOWED) run.ids.push(...reply.ids.slice(0, FOLLOWED - run.ids.length));
        for (const { line, detail } of reply.rejected) run.reject({ ...batch.places[line - 1], rejected: detail });
        return;
      }
      failure = new Failure(left[0]?.detail ?? "The queue did not take all of it.", { status: 503, after: left[0]?.retry_after ?? null });
    } catch (error) {
      if (isAbort(error)) throw error;
      failure = error;
    }
    if (failure.passes) {
      const wait = backoff(tries, failure.after, 30);
      run.show(`${sentence(failure.message)} Going on in ${span(Math.max(1, wait))}; ${data(run.accepted)} accepted so far.`, "warn");
      await pause(wait, run.signal);
    } else {
      run.show(`${sentence(needsSignIn(failure))} ${data(run.accepted)} accepted so far.`, "error");
      await new Promise((resolve, reject) => {
        const go = el("button", { type: "button", class: "small primary", click: resolve }, "Go on");
        run.row.buttons(go, cancel);
        run.signal.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")), { once: true });
      });
      run.row.buttons(cancel);
    }
    run.show();
  }
}
const sentence = words => (/[.!?…]$/.test(words) ? words : `${words}.`);

// --- until it can be answered with --------------------------------------------------------------------------------------------------------

const STATES = {
  queued: ["Accepted, and on its way.", ""], processed: ["Learned: it can be answered with.", "good"],
  failed: ["It could not be learned, and lies with the dead letters.", "error"], retracted: ["Taken back.", "warn"],
};

// A few data are asked for by their ids; of many, the last, and how many are not learned yet of all data that there are: so at most as
// many of these. Each is asked for, since what the events have told may be older than these data.
async function follow(row, ids, count, last, dead) {
  if (count <= ids.length && count <= FOLLOWED) return followEach(row, ids);
  for (let tries = 1; ; tries++) {
    const [stats, datum] = await Promise.all(["/multivac/stats", `/multivac/data/${last}`].map(path => call(path).then(reply => reply.body, () => null)));
    const left = stats ? Math.min(count, stats.queued + stats.processing) : count;
    const lost = stats && dead !== null ? Math.max(0, stats.dead - dead) : 0;
    const also = lost ? ` ${data(lost)} could not be learned meanwhile: see Watch.` : "";
    if (left === 0) return row.state(`${data(count)} accepted, and learned.${also}`, lost ? "warn" : "good");
    if (datum?.status === "processed") return row.state(`${data(count)} accepted; the last of them can be answered with.${also}`, lost ? "warn" : "good");
    row.state(`${data(count)} accepted; ${left === count ? "on their way." : `at least ${number(count - left)} of them learned.`}${also}`);
    // Not before a moment has passed, and then when the ledger moves, or after a while.
    await pause(0.1 * Math.min(tries, 10));
    await Promise.race([ledger.next(), pause(10)]);
  }
}

async function followEach(row, ids) {
  const states = new Map(ids.map(id => [id, "queued"]));
  for (let tries = 1; ; tries++) {
    for (const [id, state] of states) {
      if (state !== "queued") continue;
      const reply = await call(`/multivac/data/${id}`).catch(() => null);
      if (reply) states.set(id, reply.body.status);
    }
    const waiting = [...states.values()].filter(state => state === "queued").length;
    if (ids.length === 1) {
      row.state(...STATES[states.get(ids[0])]);
    } else {
      const failed = [...states.values()].filter(state => state === "failed").length;
      const done = `${data(ids.length)} accepted${waiting ? `; ${number(ids.length - waiting)} of them learned` : failed ? `; ${number(failed)} could not be learned` : ", and learned"}.`;
      row.state(done, waiting ? "" : failed ? "error" : "good");
    }
    if (!waiting) break;
    // Not before a moment has passed, and then when the ledger moves, or after a while.
    await pause(0.1 * Math.min(tries, 10));
    if (tries > 3) await Promise.race([ledger.next(), pause(backoff(tries, null, 10))]);
  }
  if (ids.length === 1) row.buttons(el("code", { class: "id" }, ids[0]), takeBack(ids[0], () => row.state(...STATES.retracted)));
}

// --- choosing and dropping -------------------------------------------------------------------------------------------------------------------

say("max-datum", bytes(MAX_DATUM));
for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
  at(button).onclick = () => at(input).click();
  at(input).onchange = () => { if (at(input).files.length) feedFiles([...at(input).files]); at(input).value = ""; };
}
at("choose-folder").hidden = !("webkitdirectory" in HTMLInputElement.prototype);

let depth = 0;
const hasFiles = event => [...event.dataTransfer?.types ?? []].includes("Files");
window.addEventListener("dragenter", event => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  if (++depth === 1) document.body.classList.add("dropping");
});
window.addEventListener("dragleave", event => {
  if (hasFiles(event) && --depth <= 0) { depth = 0; document.body.classList.remove("dropping"); }
});
window.addEventListener("dragover", event => { if (hasFiles(event)) event.preventDefault(); });
window.addEventListener("drop", event => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("dropping");
  const entries = entriesOf(event.dataTransfer);
  location.hash = "#/feed";
  if (entries.length) feedFiles(entries);
});
