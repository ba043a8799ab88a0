
// --- server-sent events ------------------------------------------------------------------------------------------------------
// Read by fetch and not by EventSource, which hides why a server refuses (401, 429, 503 and its Retry-After), gives up for good at
// the first 503 of a restart, and never finds out that a connection has gone silent.

// The server sends a comment every 15 s. After three it is gone.
const SILENCE = 46_000;
// A page that nobody sees gives its connection to others: over HTTP/1.1 a browser has six for all its tabs.
const unseenFor = () => (isShared() ? 20_000 : 1500);

// Parses lines as https://html.spec.whatwg.org/multipage/server-sent-events.html has them.
class EventParser {
  buffer = "";
  id = "";
  retry = null;
  clear() {
    Object.assign(this, { event: "", lines: [] });
  }
  constructor() {
    this.clear();
  }
  // Calls `each({ event, data })` for every event that is whole by now.
  push(text, each) {
    this.buffer += text;
    // A CR at the end may be half of a CR LF.
    const whole = this.buffer.match(/^[^]*(?:\n|\r(?=[^]))/)?.[0] ?? "";
    this.buffer = this.buffer.slice(whole.length);
    if (this.buffer.length > 4 << 20) throw new Failure("an event of this stream never ends");
    for (const line of whole.split(/\r\n|\n|\r/).slice(0, -1)) {
      if (line === "") {
        if (this.lines.length) each({ event: this.event || "message", data: this.lines.join("\n") });
        this.clear();
      } else if (!line.startsWith(":")) {
        const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(line);
        if (field === "data") this.lines.push(value);
        else if (field === "event") this.event = value;
        else if (field === "id" && !value.includes("\0")) this.id = value;
        else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value) / 1000;
      }
    }
  }
}

// listen(path, { event, state }): keeps a stream open for as long as the page is seen, and opens it again with Last-Event-ID.
// `event(name, data)` gets each event; `state(state, failure)` gets "connecting", "live", "waiting", "refused" or "paused".
// Returns { stop, again }.
function listen(path, { event, state }) {
  const stopping = new AbortController();
  let lastId = "", attempt = null, wake = () => {}, tries = 0, retry = null;

  async function once() {
    attempt = new AbortController();
    const abort = () => attempt.abort();
    stopping.signal.addEventListener("abort", abort);
    let silence;
    const heard = () => { clearTimeout(silence); silence = setTimeout(abort, SILENCE); };
    try {
      heard();
      const reply = await fetch(path, {
        cache: "no-store", signal: attempt.signal,
        headers: { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) },
      });
      if (!reply.ok || !reply.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        const body = await reply.json().catch(() => null);
        throw new Failure(body?.detail ?? `MultiVAC's reply (${reply.status}) cannot be read.`,
          { status: reply.status, after: seconds(reply.headers.get("Retry-After")) });
      }
      state("live");
      const parser = new EventParser(), reader = reply.body.getReader(), decoder = new TextDecoder();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        heard();
        parser.push(decoder.decode(value, { stream: true }), ({ event: name, data: text }) => {
          // Only now is it known that the stream works, and not just that it begins.
          tries = 0;
          const told = JSON.parse(text);
          // A fault of the page is no fault of the line.
          try { event(name, told); } catch (fault) { console.error(fault); }
        });
        if (parser.id) lastId = parser.id;
        if (parser.retry !== null) retry = parser.retry;
      }
    } finally {
      clearTimeout(silence);
      stopping.signal.removeEventListener("abort", abort);
      attempt.abort();
    }
  }

  // Until the page is seen.
  const seen = () => new Promise(resolve => {
    if (!document.hidden) return resolve();
    document.addEventListener("visibilitychange", resolve, { once: true });
    stopping.signal.addEventListener("abort", resolve, { once: true });
  });

  let unseen;
  const visibility = () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(() => attempt?.abort(), unseenFor());
  };
  document.addEventListener("visibilitychange", visibility);
  const offline = () => attempt?.abort();
  window.addEventListener("offline", offline);

  (async () => {
    while (!stopping.signal.aborted) {
      if (document.hidden) { state("paused"); await seen(); continue; }
      let failure = null;
      if (tries === 0) state("connecting");
      try {
        await once();
      } catch (error) {
        failure = error instanceof Failure ? error : new Failure(navigator.onLine === false ? "You are offline." : NO_ANSWER);
      }
      if (stopping.signal.aborted) break;
      if (document.hidden) continue;
      const refused = failure !== null && !failure.passes;
      state(refused ? "refused" : "waiting", failure ?? new Failure("the stream has ended"));
      // Who refuses is asked again when somebody wants it, or seldom.
      const wait = refused ? 300 : backoff(++tries, failure?.after ?? (tries === 1 ? retry : null));
      const nap = new AbortController();
      wake = () => nap.abort();
      await pause(wait, nap.signal).catch(() => {});
    }
    document.removeEventListener("visibilitychange", visibility);
    window.removeEventListener("offline", offline);
  })();
  stopping.signal.addEventListener("abort", () => { clearTimeout(unseen); wake(); });
  return { stop: () => stopping.abort(), again: () => { tries = 0; wake(); } };
}
