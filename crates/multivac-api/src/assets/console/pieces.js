
// --- files to data ---------------------------------------------------------------------------------------------------------------------
// Each file is read in pieces, so that its size does not matter. What comes out is { data, name, line } for a datum, or
// { rejected, name, line } for what cannot be one, with the reason; `read` is how many bytes of the files that took.

const MAX_DATUM = Number(document.documentElement.dataset.maxDatumBytes) || 1 << 20;
const utf8 = new TextEncoder();
const size = text => (text.length * 3 <= MAX_DATUM ? text.length : utf8.encode(text).length);
const tooLong = text => text.length > MAX_DATUM || size(text) > MAX_DATUM;

const KINDS = [[/\.(ndjson|jsonl)$/i, "lines"], [/\.csv$/i, "rows"], [/\.x?html?$/i, "html"]];
const kindOf = name => KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? "text";

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

// Rows as RFC 4180 has them: a field in quotes may hold commas, quotes (doubled) and line breaks.
async function* rowsOf(texts) {
  let row = [], field = "", quoted = false, closing = false, line = 1, begun = 1, isLost = false;
  const end = () => { row.push(field); field = ""; };
  for await (const text of texts) {
    for (const sign of text) {
      if (sign === "\n") line++;
      if (closing) {
        closing = false;
        if (sign === "\"") { field += sign; continue; }
        quoted = false;
      }
      if (quoted) {
        if (sign === "\"") closing = true;
        else field += sign;
      } else if (sign === "\"" && field === "") quoted = true;
      else if (sign === ",") end();
      else if (sign === "\n") {
        if (field.endsWith("\r")) field = field.slice(0, -1);
        end();
        yield { row: isLost ? null : row, line: begun };
        [row, begun, isLost] = [[], line, false];
      } else field += sign;
      if (field.length > MAX_DATUM) [field, row, isLost] = ["", [], true];
    }
  }
  if (quoted && !closing) yield { row: null, line: begun, why: "a quote is opened and never closed" };
  else if (field || row.length) { end(); yield { row: isLost ? null : row, line: begun }; }
}

// The first row names the columns. A row is fed as the column `data` or `text` where there is one, else as all of its fields with
// their columns' names.
async function* fromRows(texts) {
  let names = null;
  for await (const { row, line, why } of rowsOf(texts)) {
    if (row === null) { yield { rejected: why ?? `longer than ${bytes(MAX_DATUM)}, the most a datum may have`, line }; continue; }
    if (row.every(field => !field.trim())) continue;
    if (!names) { names = row.map(name => name.trim()); continue; }
    const column = names.findIndex(name => /^(data|text)$/i.test(name));
    const fields = row.map((field, index) => [names[index], field.trim()]).filter(([, field]) => field);
    yield { data: column >= 0 ? row[column] ?? "" : fields.map(([name, field]) => (name ? `${name}: ${field}` : field)).join("\n"), line };
  }
}

// A whole text, or its paragraphs put together as far as they go into a datum.
async function* fromText(texts, isHtml) {
  let held = "", line = 1, isSplit = false;
  for await (const text of texts) {
    held += text;
    while (tooLong(held)) {
      if (isHtml) throw new Failure(`larger than ${bytes(MAX_DATUM)}, the most a datum may have, and a page is not split`);
      isSplit = true;
      // Half the limit in characters is within it in bytes for most scripts; the rest is shortened below.
      let most = MAX_DATUM;
      while (size(held.slice(0, most)) > MAX_DATUM) most = Math.floor(most * 0.75);
      const breaks = [...held.slice(0, most).matchAll(/\n[ \t]*\r?\n/g)], last = breaks.at(-1);
      if (!last?.index) throw new Failure(`its paragraph from line ${number(line)} on is larger than ${bytes(MAX_DATUM)}, the most a datum may have`);
      const at = last.index + last[0].length, part = held.slice(0, at);
      if (part.trim()) yield { data: part, line };
      line += part.split("\n").length - 1;
      held = held.slice(at);
    }
  }
  if (held.trim()) yield { data: held, line: isSplit ? line : undefined };
  else if (!isSplit) yield { rejected: "it is empty" };
}

async function* piecesOf(file, progress) {
  const name = file.webkitRelativePath || file.path || file.name, kind = kindOf(file.name), texts = textsOf(file, progress);
  try {
    const pieces = kind === "lines" ? fromLines(texts) : kind === "rows" ? fromRows(texts) : fromText(texts, kind === "html");
    for await (const piece of pieces) {
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

async function filesOf(transfer) {
  // Before anything is waited for: the list is gone after that.
  const entries = [...transfer.items].filter(item => item.kind === "file").map(item => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return files;
}
async function collect(entry, files) {
  if (!entry) return;
  if (entry instanceof File) return void files.push(entry);
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.path = entry.fullPath.replace(/^\//, "");
    return void files.push(file);
  }
  const reader = entry.createReader();
  for (;;) {
    // A browser gives a hundred at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await collect(inner, files);
  }
}
