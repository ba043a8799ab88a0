#!/usr/bin/env node
// Feeds MultiVAC a text, waits until it is learned, asks, and takes the text back: feed-and-ask.mjs [URL]
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// The JSON that comes back. After a 429 or 503 it tries again when the reply's Retry-After says. As it is for browsers too.
async function call(url, method, headers, body) {
  for (let triesLeft = 5; ; triesLeft--) {
    const signal = AbortSignal.timeout(30_000);
    const reply = await fetch(url, { method, headers: { Accept: "application/json", ...headers }, body, signal });
    if (reply.ok) return JSON.parse((await reply.text()) || "null");
    if (![429, 503].includes(reply.status) || triesLeft === 0) throw new Error(`${reply.status}: ${await reply.text()}`);
    await wait(Math.min(Number(reply.headers.get("Retry-After") ?? 1), 60));
  }
}

export async function feedAndAsk(url, text, question, headers = {}) {
  // The same key again is the same datum, so that it is safe to send this again.
  const key = { "Idempotency-Key": crypto.randomUUID(), "Content-Type": "application/json" };
  const { id } = await call(`${url}/multivac/data`, "POST", { ...headers, ...key }, JSON.stringify({ data: text }));
  let status = "queued";
  for (const started = Date.now(); status === "queued" && Date.now() - started < 60_000; await wait(0.1)) {
    status = (await call(`${url}/multivac/data/${id}`, "GET", headers)).status;
  }
  if (status !== "processed") throw new Error(`the datum is ${status}`);
  const answer = await call(`${url}/multivac?${new URLSearchParams({ question })}`, "GET", headers);
  await call(`${url}/multivac/data/${id}`, "DELETE", headers);
  return `answer: ${answer.answer}\nevidence: ${answer.evidence[0].id}\nretracted: ${id}`;
}

const { MULTIVAC_USER: user, MULTIVAC_PASSWORD_FILE: file } = process.env;
const url = process.argv[2] ?? "http://127.0.0.1:5000";
try {
  const { readFileSync } = await import("node:fs");
  const headers = user ? { Authorization: `Basic ${btoa(`${user}:${readFileSync(file, "utf8").trim()}`)}` } : {};
  console.log(await feedAndAsk(url, "Penguins eat krill and small fish.", "What do penguins eat?", headers));
} catch (error) {
  console.error(`feed-and-ask: ${url}: ${error.message} ${error.cause?.message ?? ""}`);
  process.exitCode = 1;
}
