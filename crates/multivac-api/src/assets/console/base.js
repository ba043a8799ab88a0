// What every part of the console uses. Data come into the page as text nodes alone, never as markup.
const at = id => document.getElementById(id);

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter(child => child !== undefined && child !== null && child !== false));
  return element;
}
// el("button", { class: "quiet", click: f }, "Words"): an element with its attributes, listeners and children.
const el = (name, attributes = {}, ...children) => make(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

// Shows or hides an element, with words in it.
function say(id, words) {
  const element = at(id);
  if (element.textContent !== (words ?? "")) element.textContent = words ?? "";
  element.hidden = !words;
}

// --- numbers, times and texts as people read them --------------------------------------------------------------------

const INSUFFICIENT = "INSUFFICIENT DATA FOR MEANINGFUL ANSWER.";
const number = value => value.toLocaleString("en");
const percent = share => `${Math.round(share * 100)}\u00a0%`;
const many = (count, one, more) => `${number(count)} ${count === 1 ? one : more}`;
const data = count => many(count, "datum", "data");

function bytes(count) {
  if (count < 1024) return many(count, "byte", "bytes");
  const units = ["KiB", "MiB", "GiB", "TiB"], power = Math.min(units.length, Math.floor(Math.log2(count) / 10));
  return `${+(count / 1024 ** power).toPrecision(3)} ${units[power - 1]}`;
}

function span(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return seconds < 36 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

// A <time> that says how long ago, and exactly when if one points at it.
function time(moment) {
  const date = new Date(moment);
  if (Number.isNaN(date.valueOf())) return "";
  return el("time", { datetime: date.toISOString(), title: date.toLocaleString(), class: "ago" }, ago(date));
}
function ago(date) {
  const past = (Date.now() - date) / 1000;
  if (past < 5) return "just now";
  return past < 36 * 3600 ? `${span(past)} ago` : date.toLocaleDateString("en", { dateStyle: "medium" });
}
// What was just now is not for ever.
setInterval(() => {
  for (const element of document.querySelectorAll("time.ago")) {
    const words = ago(new Date(element.dateTime));
    if (element.textContent !== words) element.textContent = words;
  }
}, 5000);
const clock = date => date.toLocaleString("en-GB", { ...(date.toDateString() !== new Date().toDateString() && { dateStyle: "medium" }), timeStyle: "medium" });

// Cut at a space, with a mark where it is.
function clip(text, length) {
  if (text.length <= length) return text;
  const cut = text.slice(0, length), space = cut.search(/\s\S*$/);
  return `${cut.slice(0, space > length / 2 ? space : length).replace(/[\uD800-\uDBFF]$/, "")} …`;
}

// --- what is kept in this browser: it may be full, or forbidden ----------------------------------------------------------

function kept(storage, name, otherwise) {
  try {
    return JSON.parse(storage().getItem(`multivac.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
function keep(storage, name, value) {
  try {
    if (value === undefined) storage().removeItem(`multivac.${name}`);
    else storage().setItem(`multivac.${name}`, JSON.stringify(value));
  } catch { /* Then it is forgotten with the page. */ }
}
const forGood = () => localStorage;
const forThisTab = () => sessionStorage;

// --- calls -----------------------------------------------------------------------------------------------------------------

const NO_ANSWER = "MultiVAC does not answer.";

// What went wrong, in words; whether the same call may succeed later, and after how many seconds.
class Failure extends Error {
  constructor(message, { status = 0, after = null, body = null } = {}) {
    super(message);
    Object.assign(this, { status, after, body });
  }
  get passes() {
    return [0, 408, 425, 429, 502, 503, 504].includes(this.status);
  }
}

const seconds = header => (/^\d+$/.test(header ?? "") ? Number(header) : null);

// What a path replies, as JSON; whatever goes wrong is a Failure. `signal` aborts it, and then it throws nothing but AbortError.
async function call(path, { timeout = 40_000, signal, ...options } = {}) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  signal?.addEventListener("abort", abort);
  if (signal?.aborted) abort();
  let late = false;
  const timer = setTimeout(() => { late = true; abort(); }, timeout);
  try {
    const reply = await fetch(path, { cache: "no-cache", ...options, signal: controller.signal });
    const text = await reply.text();
    const after = seconds(reply.headers.get("Retry-After"));
    let body = null;
    try { body = JSON.parse(text); } catch { /* Said below. */ }
    if (reply.ok && (reply.status === 204 || body)) return { status: reply.status, body, stale: reply.headers.get("Warning") };
    const detail = body?.detail ?? `MultiVAC's reply (${reply.status}) cannot be read.`;
    throw new Failure(detail, { status: reply.status, after, body });
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (signal?.aborted) throw new DOMException("another call has taken its place", "AbortError");
    if (late) throw new Failure(`${NO_ANSWER} It was given ${span(timeout / 1000)}.`);
    throw new Failure(navigator.onLine === false ? "You are offline." : NO_ANSWER);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

// Resolves after some seconds, or at once when the browser is online again; rejects when `signal` aborts.
function pause(duration, signal) {
  return new Promise((resolve, reject) => {
    const end = (settle, value) => {
      clearTimeout(timer);
      window.removeEventListener("online", go);
      signal?.removeEventListener("abort", stop);
      settle(value);
    };
    const go = () => end(resolve), stop = () => end(reject, new DOMException("no longer wanted", "AbortError"));
    const timer = setTimeout(go, duration * 1000);
    window.addEventListener("online", go);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
  });
}

// Seconds to wait before the next try: what the server said, else twice as long each time, and never all at the same moment.
const backoff = (tries, after, most = 15) => (after === null || after === undefined
  ? Math.min(most, 2 ** Math.min(tries, 6) / 2) * (0.75 + Math.random() / 2)
  : after * (1 + Math.random() / 4));

const isAbort = error => error.name === "AbortError";
const randomKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
