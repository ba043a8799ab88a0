"use strict";
// Shows openapi.json, and sends what is filled in to the server that the page came from. Whatever is shown is set as text.

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];
const READS = ["get", "head", "options"];
const SHOWN_CHARS = 500000; // Of a reply: a stream may go on for days.
let spec;

// make("p", {class: "dim"}, "text", child…): an element; a text between backticks is code.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) {
    if (typeof child !== "string") element.append(child);
    else child.split("`").forEach((part, at) => {
      if (part) element.append(at % 2 ? make("code", {}, part) : part);
    });
  }
  return element;
}

// Texts that may hold backticks of their own.
function plain(name, attributes, text) {
  const element = make(name, attributes);
  element.textContent = text;
  return element;
}

// What long texts are shown in; it can be scrolled by keys.
const box = (label, text) => plain("pre", { tabindex: "0", role: "region", "aria-label": label }, text);

function resolve(value) {
  while (value && value.$ref) value = value.$ref.slice(2).split("/").reduce((at, key) => at[key], spec);
  return value;
}

function example(schema, depth = 0) {
  schema = resolve(schema) || {};
  if (schema.example !== undefined) return schema.example;
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const type = [schema.type].flat()[0];
  if (schema.properties && depth < 8) {
    return Object.fromEntries(Object.entries(schema.properties).map(([key, value]) => [key, example(value, depth + 1)]));
  }
  if (type === "array") return depth < 8 ? [example(schema.items, depth + 1)] : [];
  if (type === "integer" || type === "number") return schema.minimum || 0;
  return type === "boolean" ? false : type === "object" ? {} : "…";
}

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// A field with its label and what it means; `control` makes the input, select or textarea.
function field(form, id, label, hint, control) {
  control.id = id;
  form.append(make("label", { for: id }, label));
  if (hint) {
    control.setAttribute("aria-describedby", `${id}-hint`);
    form.append(make("div", { id: `${id}-hint`, class: "dim" }, hint));
  }
  form.append(control);
  return control;
}

const options = (values) => make("select", {}, ...values.map((value) => plain("option", {}, value)));

// The fields of a request, and what makes the request of them.
function fields(form, path, method, operation) {
  const id = operation.operationId;
  const parameters = (operation.parameters || []).map(resolve).sort((one, other) => Boolean(other.required) - Boolean(one.required));
  const inputs = parameters.map((parameter) => {
    const { type, minimum, maximum, maxLength } = resolve(parameter.schema) || {};
    const limits = { maxlength: maxLength, min: minimum, max: maximum, type: type === "integer" ? "number" : "text" };
    const input = make("input", { ...limits, required: parameter.required, autocomplete: "off", spellcheck: "false" });
    const label = `${parameter.name} (${parameter.in}${parameter.required ? ", required" : ""})`;
    return [parameter, field(form, `${id}-${parameter.name}`, label, parameter.description, input)];
  });
  const types = [...new Set(Object.entries(operation.responses).filter(([status]) => status < "300")
    .flatMap(([, response]) => Object.keys(resolve(response).content || {})))];
  const accept = types.length > 1 ? field(form, `${id}-accept`, "Reply as (Accept)", "", options(types)) : undefined;
  const content = (resolve(operation.requestBody) || {}).content;
  const body = content && bodyFields(form, id, resolve(operation.requestBody).description, content);
  return () => {
    const headers = {}, query = new URLSearchParams();
    let target = path;
    for (const [parameter, input] of inputs) {
      if (input.value === "") continue;
      if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (parameter.in === "query") query.set(parameter.name, input.value);
      else headers[parameter.name] = input.value;
    }
    if (accept) headers.Accept = accept.value;
    const request = { method: method.toUpperCase(), headers, cache: "no-store" };
    if (body) [headers["Content-Type"], request.body] = body();
    // The browser names the boundary of the parts that it makes.
    if (request.body instanceof FormData) delete headers["Content-Type"];
    return [target + (query.size ? `?${query}` : ""), request];
  };
}

function bodyFields(form, id, description, content) {
  const type = field(form, `${id}-type`, "Body as (Content-Type)", description, options(Object.keys(content)));
  const text = field(form, `${id}-body`, "Body", "", make("textarea", { rows: "4", spellcheck: "false" }));
  const isForm = () => type.value.includes("form");
  const fill = () => {
    const { schema, example: given } = content[type.value];
    const value = given === undefined ? example(schema) : given;
    // Of a form the first field, which for this server is the only one.
    text.value = asText(isForm() ? Object.values(value)[0] : value);
    form.querySelector(`[for="${text.id}"]`).textContent = isForm() ? `Field ${Object.keys(value)[0]}` : "Body";
  };
  type.addEventListener("change", fill);
  fill();
  return () => {
    if (!isForm()) return [type.value, text.value];
    const data = type.value.startsWith("multipart") ? new FormData() : new URLSearchParams();
    data.set(Object.keys(example(content[type.value].schema))[0], text.value);
    return [type.value, data];
  };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function asCurl(target, { method, headers, body }) {
  const parts = ["curl", method === "HEAD" ? "--head" : `-X ${method}`, quoted(location.origin + target)];
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body instanceof FormData) for (const [name, value] of body) parts.push(`--form-string ${quoted(`${name}=${value}`)}`);
  // Not --data-binary, for which a text that begins with @ is a file's name.
  else if (body !== undefined) parts.push(`--data-raw ${quoted(String(body))}`);
  if ((headers.Accept || "").includes("event-stream")) parts.push("--no-buffer");
  return parts.join(" ");
}

// Sends it, and shows the reply as it comes.
async function send(target, request, { result, stop }) {
  const status = make("p", { class: "status", role: "status" }, "Sending…");
  result.replaceChildren(status, box("The same by curl", asCurl(target, request)));
  const stopper = new AbortController();
  stop.onclick = () => stopper.abort();
  const started = performance.now();
  const took = () => `${Math.round(performance.now() - started)} ms`;
  let line = "";
  try {
    const reply = await fetch(target, { ...request, signal: stopper.signal });
    line = `${reply.status} ${reply.statusText}`.trim();
    status.textContent = `${line}, after ${took()}; receiving…`;
    status.classList.toggle("bad", !reply.ok);
    result.append(box("Headers", [...reply.headers].map(([name, value]) => `${name}: ${value}`).join("\n")));
    await receive(reply, result);
    status.textContent = `${line}, complete after ${took()}`;
  } catch (error) {
    const why = stopper.signal.aborted ? "stopped" : line ? "the connection broke off" : `no reply: ${error.message}`;
    status.textContent = `${line ? `${line}, ` : ""}${why} after ${took()}`;
    status.classList.toggle("bad", !stopper.signal.aborted);
  }
}

async function receive(reply, result) {
  const type = reply.headers.get("Content-Type") || "";
  const shown = box("Body", "");
  const text = shown.appendChild(document.createTextNode(""));
  const decoder = new TextDecoder();
  if (!reply.body) return;
  for (let reader = reply.body.getReader(), part = await reader.read(); !part.done; part = await reader.read()) {
    const isAtEnd = shown.scrollHeight - shown.scrollTop - shown.clientHeight < 40;
    text.appendData(decoder.decode(part.value, { stream: true }));
    if (text.length > SHOWN_CHARS) text.replaceData(0, text.length - SHOWN_CHARS, "…");
    if (!shown.isConnected) result.append(shown);
    if (isAtEnd) shown.scrollTop = shown.scrollHeight;
  }
  if (type.includes("json") && text.length < SHOWN_CHARS) {
    try { text.data = JSON.stringify(JSON.parse(text.data), null, 2); } catch { /* As it came. */ }
    shown.scrollTop = 0;
  }
}

function replies(operation) {
  const list = make("dl");
  for (const [status, response] of Object.entries(operation.responses)) {
    const { description, content = {}, headers = {} } = resolve(response);
    const details = make("dd", {}, description);
    for (const [type, { schema }] of Object.entries(content)) {
      const name = schema && schema.$ref && schema.$ref.split("/").pop();
      details.append(make("div", { class: "dim" }, `\`${type}\`${name ? ": " : ""}`, ...(name ? [make("a", { href: `#schema-${name}` }, name)] : [])));
    }
    for (const [name, header] of Object.entries(headers)) {
      details.append(make("div", { class: "dim" }, `\`${name}\`: ${resolve(header).description || ""}`));
    }
    list.append(make("dt", {}, status), details);
  }
  return list;
}

// One operation; what is in it is made when it is opened.
function show(path, method, operation) {
  const kind = READS.includes(method) ? "method" : "method write";
  const heading = make("h3", {}, make("span", { class: kind }, method.toUpperCase()), " ", make("code", {}, path), ` ${operation.summary || ""}`);
  const details = make("details", { id: operation.operationId }, make("summary", {}, heading));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const form = make("form");
    const request = fields(form, path, method, operation);
    const submit = make("button", { type: "submit" }, "Send");
    const stop = make("button", { type: "button", disabled: true }, "Stop");
    const result = make("div");
    form.append(submit, stop);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      stop.disabled = false;
      await send(...request(), { result, stop });
      const hadFocus = document.activeElement === stop;
      submit.disabled = false;
      stop.disabled = true;
      if (hadFocus) submit.focus();
    });
    const who = operation.security ? "Through the edge this needs a user name and a password." : "";
    details.append(make("div", {}, make("p", {}, operation.description || ""), make("p", { class: "dim" }, who),
      make("h4", {}, "Try it"), form, result, make("h4", {}, "Replies"), replies(operation)));
  });
  return details;
}

function schemas() {
  const entries = Object.entries(spec.components.schemas).map(([name, schema]) =>
    make("details", { id: `schema-${name}` }, make("summary", {}, plain("h3", {}, name)),
      make("div", {}, make("p", {}, schema.description || ""), box(`Schema ${name}`, JSON.stringify(schema, null, 2)))));
  return [make("h2", { id: "schemas" }, "Schemas"), ...entries];
}

// What the address names is opened.
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named && named.tagName === "DETAILS") named.open = true;
  if (named) named.scrollIntoView();
}

async function main() {
  const about = document.getElementById("about");
  try {
    const reply = await fetch("/openapi.json");
    if (!reply.ok) throw new Error(`openapi.json: ${reply.status}`);
    spec = await reply.json();
  } catch (error) {
    about.textContent = `The description cannot be loaded: ${error.message}. Load this page again.`;
    about.classList.add("bad");
    return;
  }
  about.textContent = `Version ${spec.info.version}. ${spec.info.description}`;
  const content = document.getElementById("operations"), index = document.getElementById("index");
  for (const [path, item] of Object.entries(spec.paths)) {
    content.append(plain("h2", {}, path));
    for (const method of METHODS.filter((method) => item[method])) {
      const operation = item[method];
      content.append(show(path, method, operation));
      if (method === "head" || method === "options") continue;
      const kind = READS.includes(method) ? "method" : "method write";
      index.append(make("li", {}, make("a", { href: `#${operation.operationId}` }, make("span", { class: kind }, method.toUpperCase()), " ", path)));
    }
  }
  content.append(...schemas());
  index.append(make("li", {}, make("a", { href: "#schemas" }, "Schemas")));
  addEventListener("hashchange", openNamed);
  openNamed();
}

main();
