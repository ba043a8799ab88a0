
// --- files to data ---------------------------------------------------------------------------------------------------------------------
// Each file is read in pieces, so that its size does not matter. What comes out is { data, name, line } for a datum, or
// { rejected, name, line } for what cannot be one, with the reason.

const MAX_DATUM = Number(document.documentElement.dataset.maxDatumBytes) || 1 << 20;
const utf8 = new TextEncoder();
const size = text => (text.length * 3 <= MAX_DATUM ? text.length : utf8.encode(text).length);
const tooLong = text => text.length > MAX_DATUM || size(text) > MAX_DATUM;

// NDJSON is a datum a line. Everything else that is text is a datum a file: MultiVAC finds the rows of a table, the text in HTML.
const isTable = file => /\.(csv|tsv)$/i.test(file.name);
const isLines = file => /\.(ndjson|jsonl)$/i.test(file.name) || /ndjson/.test(file.type);

async function* textsOf(file, progress) {
  const reader = file.stream().getReader(), decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (text.includes("\0")) throw new Failure("this is no text");
      if (text) yield text;
      if (done) return;
      progress(value.byteLength);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(error instanceof TypeError ? "this is not text in UTF-8" : `it cannot be read: ${error.message}`);
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A file of lines, each with its number. One that never ends is cut off, and null stands for it.
async function* linesOf(texts, most) {
  let rest = "", line = 1, isLost = false;
  for await (const text of texts) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const whole of lines) {
      yield { text: isLost || whole.length > most ? null : whole, line: line++ };
      isLost = false;
    }
    if (rest.length > most) { rest = ""; isLost = true; }
  }
  if (rest || isLost) yield { text: isLost ? null : rest, line };
}

async function* fromLines(texts) {
  // A character may be escaped in six bytes.
  for await (const { text, line } of linesOf(texts, 6 * MAX_DATUM + 100)) {
    if (text === null) { yield { rejected: `longer than ${bytes(MAX_DATUM)}, the most a datum may have`, line }; continue; }
    if (!text.trim()) continue;
    let value;
    try { value = JSON.parse(text); } catch { yield { rejected: "this is no JSON", line }; continue; }
    if (typeof value?.data !== "string") yield { rejected: "expected {\"data\": \"…\"}", line };
    else yield { data: value.data, line };
  }
}

// The end of the last paragraph in `text`, else of its last line, else of its last word.
function cut(text) {
  const end = pattern => {
    const found = [...text.matchAll(pattern)].at(-1);
    return found && found.index + found[0].length;
  };
  const whole = /[\uD800-\uDBFF]$/.test(text) ? text.length - 1 : text.length;
  return end(/\n[ \t]*\r?\n/g) || end(/\n/g) || end(/\s/g) || whole;
}

// Of the first part of a table its head line, unless that leaves little room for rows.
function headLine(part) {
  const line = /\S[^\n]*\n/.exec(part)?.[0] ?? "";
  return size(line) <= MAX_DATUM / 4 ? line : "";
}

// A whole text, or its parts, if it is longer than a datum may be; each is as large as it may be. The head line of a table stands in
// each part.
async function* fromText(texts, split, isTable) {
  let held = "", head = "", line = 1, parts = 0;
  for await (const text of texts) {
    held += text;
    while (tooLong(head + held)) {
      // Not in one step to the limit: characters of several bytes are to fit, too.
      let most = MAX_DATUM - head.length;
      while (size(head + held.slice(0, most)) > MAX_DATUM) most = Math.floor(most * 0.9);
      const part = held.slice(0, cut(held.slice(0, most)));
      if (part.trim()) { parts++; yield { data: head + part, line }; }
      if (isTable && parts === 1 && !head) head = headLine(part);
      line += part.split("\n").length - 1;
      held = held.slice(part.length);
    }
  }
  if (held.trim()) { parts++; yield { data: head + held, line: parts > 1 ? line : undefined }; }
  if (!parts) yield { rejected: "it is empty" };
  if (parts > 1) split(parts);
}

const nameOf = file => file.webkitRelativePath || file.path || file.name;

// `progress(bytes)` is told what was read, `split(parts)` that a text was too long for one datum.
async function* piecesOf(file, progress, split) {
  const name = nameOf(file), texts = textsOf(file, progress);
  try {
    for await (const piece of isLines(file) ? fromLines(texts) : fromText(texts, split, isTable(file))) {
      if (piece.rejected) yield { ...piece, name };
      else if (!piece.data.trim()) yield { rejected: "it is empty", line: piece.line, name };
      else if (tooLong(piece.data)) yield { rejected: `longer than ${bytes(MAX_DATUM)}, the most a datum may have`, line: piece.line, name };
      else yield { ...piece, name };
    }
  } catch (error) {
    yield { rejected: error.message, name };
  }
}

// --- what was dropped, folders and what is in them --------------------------------------------------------------------------------------

// Before anything is waited for: the list is gone after that.
const entriesOf = transfer => [...transfer.items].filter(item => item.kind === "file").map(item => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean);

// The files of `entries`, which are files, or what was dropped; { rejected, name } for what cannot be read.
async function* filesIn(entries) {
  for (const entry of entries) {
    try {
      if (entry instanceof File) yield entry;
      else if (entry.isFile) {
        const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
        file.path = entry.fullPath.replace(/^\//, "");
        yield file;
      } else {
        const reader = entry.createReader();
        // A browser gives a hundred at a time.
        for (let some; (some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length;) yield* filesIn(some);
      }
    } catch (error) {
      yield { rejected: `it cannot be read: ${error.message}`, name: (entry.fullPath ?? entry.name).replace(/^\//, "") };
    }
  }
}
