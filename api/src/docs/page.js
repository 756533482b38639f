// Shows /openapi.json: an index to the left, one operation to the right, and a form that sends it.
// Text from the document enters the page as text nodes, never as markup. The token stays in this tab's memory.
"use strict";

const byId = (id) => document.getElementById(id);
let api = null;
let operations = [];

// An element with attributes and children; children are elements or text.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const methodLabel = (method) => make("span", { class: `method ${method}` }, method);

// A path with its parameters set apart and places where a line may break.
function pathLabel(path) {
  const parts = path.split(/(\{[^}]*\}|\/)/).filter(Boolean);
  const shown = parts.flatMap((part) => {
    if (part === "/") return ["/", make("wbr")];
    return [part.startsWith("{") ? make("i", {}, part) : part];
  });
  return make("span", { class: "path" }, shown);
}

// A sentence with `code`.
function sentence(text) {
  return (text || "").split(/(`[^`]*`)/).map((part) =>
    part.length > 1 && part.startsWith("`") && part.endsWith("`") ? make("code", {}, part.slice(1, -1)) : part);
}

// Paragraphs of them.
const prose = (text) => (text || "").split("\n\n").map((paragraph) => make("p", {}, sentence(paragraph)));

// --- The index ---

function showIndex() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = operations.filter((operation) => words.every((word) => operation.text.includes(word)));
  const sections = (api.tags || []).map((tag) => {
    const own = found.filter((operation) => operation.tag === tag.name);
    if (own.length === 0) return null;
    const links = own.map((operation) =>
      make("a", { href: `#${operation.id}`, title: operation.summary, "data-id": operation.id },
        methodLabel(operation.method), pathLabel(operation.path)));
    return make("details", { open: words.length > 0 || own.some((o) => o.id === current()) || found.length < 60 },
      make("summary", { title: tag.description }, tag.name.replace("_", "/"), " ", make("small", {}, String(own.length))),
      links);
  });
  byId("index").replaceChildren(...sections.filter(Boolean));
  if (found.length === 0) byId("index").append(make("p", { class: "quiet" }, "  Nothing has all of these words."));
  markCurrent();
}

function markCurrent() {
  for (const link of byId("index").querySelectorAll("a")) {
    if (link.dataset.id === current()) {
      link.setAttribute("aria-current", "page");
      link.closest("details").open = true;
      link.scrollIntoView({ block: "nearest" });
    } else {
      link.removeAttribute("aria-current");
    }
  }
}

const current = () => decodeURIComponent(location.hash.slice(1));

// --- Schemas ---

function resolve(schema) {
  if (!schema || !schema.$ref) return schema || {};
  const target = schema.$ref.split("/").pop();
  const found = api.components.schemas[target] || {};
  return { ...found, ...(schema.description ? { description: schema.description } : {}), name: target.split(".").pop() };
}

function typeOf(schema) {
  const full = resolve(schema);
  if (full.name && full.type === "object") return full.name;
  if (full.oneOf) return full.oneOf.map(typeOf).join(" or ");
  if (full.type === "array") return `list of ${typeOf(full.items)}`;
  if (full.additionalProperties) return `map of ${typeOf(full.additionalProperties)}`;
  return [full.type || "anything", full.format].filter(Boolean).join(", ");
}

// What is inside a schema, if anything: itself, its items or its values.
function inside(schema) {
  const full = resolve(schema);
  if (full.properties) return full;
  if (full.items) return inside(full.items);
  if (full.additionalProperties) return inside(full.additionalProperties);
  return null;
}

function fields(schema) {
  const full = inside(schema);
  if (!full) return null;
  const required = new Set(full.required || []);
  return make("div", { class: "schema" }, Object.entries(full.properties).map(([name, property]) => {
    const label = [make("code", {}, name), required.has(name) ? make("span", { class: "must" }, " *") : null,
      make("span", { class: "type" }, typeOf(property))];
    const description = prose(resolve(property).description);
    if (!inside(property)) return make("div", { class: "row" }, label, description);
    // Types refer to themselves and each other: what is inside is drawn when somebody looks.
    const details = make("details", { class: "row" }, make("summary", {}, label), description);
    details.addEventListener("toggle", () => details.append(fields(property) || ""), { once: true });
    return details;
  }));
}

function contents(content) {
  const types = Object.keys(content || {});
  if (types.length === 0) return [];
  const schema = content[types[0]].schema || {};
  return [make("p", { class: "quiet" }, typeOf(schema), " as ", types.join(", ")),
    ...(schema.oneOf || [schema]).map((one) => inside(one)
      ? make("details", {}, make("summary", {}, "Fields of ", typeOf(one)), fields(one))
      : null).filter(Boolean)];
}

// --- One operation ---

function showOperation() {
  const operation = operations.find((candidate) => candidate.id === current());
  markCurrent();
  if (!operation) return showWelcome();
  const { details } = operation;
  const parameters = details.parameters || [];
  const inputs = new Map();
  const row = (parameter) => {
    const input = make("input", { "aria-label": parameter.name, placeholder: (parameter.schema.enum || []).join(" | "),
      value: parameter.name === "namespace" ? "default" : "" });
    inputs.set(parameter, input);
    return make("tr", {},
      make("td", {}, make("code", {}, parameter.name), parameter.required ? make("span", { class: "must" }, " *") : null),
      make("td", {}, parameter.in), make("td", {}, typeOf(parameter.schema)),
      make("td", {}, prose(parameter.description)), make("td", {}, input));
  };
  const responses = Object.entries(details.responses);
  const good = responses.filter(([code]) => code < 400);
  const bad = responses.filter(([code]) => code >= 400);
  byId("main").replaceChildren(
    make("h2", {}, methodLabel(operation.method), pathLabel(operation.path)),
    make("p", {}, operation.summary, " ", make("span", { class: "quiet" }, details.security ? "Needs no token." : "")),
    ...(parameters.length === 0 ? [] : [make("h3", {}, "Parameters"),
      make("table", {}, make("thead", {}, make("tr", {}, ["Name", "In", "Type", "Meaning", "Value"].map((t) => make("th", {}, t)))),
        make("tbody", {}, parameters.map(row)))]),
    ...(details.requestBody ? [make("h3", {}, "Body"), ...contents(details.requestBody.content)] : []),
    make("h3", {}, "Answers"),
    ...good.map(([code, response]) => make("div", {}, make("p", {}, make("b", {}, code), " ", sentence(response.description)),
      contents(response.content))),
    make("p", { class: "quiet" }, "Failures, each with a Status that says what is wrong: ",
      bad.map(([code, response]) => `${code} ${response.description}`).join(" · ")),
    sender(operation, inputs));
  byId("main").scrollTop = 0;
}

function showWelcome() {
  const { info } = api;
  byId("main").replaceChildren(
    make("h2", {}, `${info.title} API`),
    ...prose(info.description),
    make("p", {}, "Every operation is to the left. Enter the server's token above to send requests from here; it stays in this tab. ",
      "The same for programs: ", make("a", { href: "/openapi.json" }, "/openapi.json"), "."),
    make("table", {}, make("tbody", {}, (api.tags || []).map((tag) =>
      make("tr", {}, make("td", {}, make("code", {}, tag.name.replace("_", "/"))), make("td", {}, tag.description),
        make("td", {}, `${operations.filter((o) => o.tag === tag.name).length} operations`))))));
}

// --- Sending ---

// Characters of an answer that are shown.
const SHOWN_MOST = 500000;

function sender(operation, inputs) {
  const content = (operation.details.requestBody || {}).content || {};
  const type = make("select", { "aria-label": "Content type of the body" },
    Object.keys(content).map((media) => make("option", {}, media)));
  const body = make("textarea", { "aria-label": "Body", spellcheck: "false", placeholder: "The body" });
  const curl = make("pre", { hidden: true });
  const answer = make("pre", { hidden: true });
  const line = make("span", { class: "quiet" });
  let running = null;
  const send = async () => {
    // A watch goes on until somebody asks for something else.
    if (running) running.abort();
    running = new AbortController();
    const url = address(operation, inputs);
    const headers = { Accept: "application/json" };
    const token = byId("token").value.trim();
    if (token) headers.Authorization = `Bearer ${token}`;
    const options = { method: operation.method.toUpperCase(), headers, cache: "no-store", signal: running.signal };
    if (Object.keys(content).length > 0 && body.value.trim()) {
      headers["Content-Type"] = type.value;
      options.body = body.value;
    }
    curl.hidden = false;
    curl.textContent = asCurl(url, options);
    const begun = performance.now();
    const show = (response, text) => {
      const took = Math.round(performance.now() - begun);
      line.textContent = `${response.status} ${response.statusText} · ${text.length} characters · ${took} ms`;
      answer.textContent = text.length > SHOWN_MOST ? `${text.slice(0, SHOWN_MOST)}…` : text;
      answer.hidden = text === "";
    };
    try {
      const response = await fetch(url, options);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        show(response, text);
      }
      show(response, laidOut(text));
    } catch (problem) {
      if (problem.name !== "AbortError") line.textContent = String(problem);
    }
  };
  return make("section", { class: "try" }, make("h3", {}, "Try it"),
    Object.keys(content).length > 0 ? [type, body] : [],
    make("div", { class: "line" }, make("button", { class: "send", type: "button", onclick: send }, "Send"), line),
    curl, answer);
}

function address(operation, inputs) {
  let path = operation.path;
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    const value = input.value.trim();
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value) query.append(parameter.name, value);
  }
  return path + (query.size > 0 ? `?${query}` : "");
}

// The token itself is left out: what is on the screen gets copied into tickets.
function asCurl(url, { method, headers, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const lines = [`curl -X ${method} ${quoted(location.origin + url)}`];
  if (headers.Authorization) lines.push(`-H "Authorization: Bearer $TOKEN"`);
  if (headers["Content-Type"]) lines.push(`-H ${quoted(`Content-Type: ${headers["Content-Type"]}`)}`);
  if (body) lines.push(`-d ${quoted(body)}`);
  return lines.join(" \\\n  ");
}

function laidOut(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// --- The page ---

async function checkToken() {
  const token = byId("token").value.trim();
  if (!token) {
    byId("who").textContent = "";
    return;
  }
  const response = await fetch("/apis/authentication.k8s.io/v1/selfsubjectreviews", {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: "{}",
  });
  const answer = response.ok ? await response.json() : null;
  byId("who").textContent = answer ? `✓ ${answer.status.userInfo.username}` : "✗ not this token";
}

function chooseTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const shown = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = shown === "dark" ? "light" : "dark";
}

async function start() {
  const response = await fetch("/openapi.json", { headers: { Accept: "application/json" } });
  api = await response.json();
  byId("version").textContent = api.info.version;
  for (const [path, item] of Object.entries(api.paths)) {
    for (const [method, details] of Object.entries(item)) {
      const kind = (details["x-kubernetes-group-version-kind"] || {}).kind || "";
      const summary = details.summary || "";
      operations.push({ id: details.operationId, path, method, details, summary, tag: details.tags[0],
        text: `${method} ${path} ${summary} ${details.operationId} ${kind}`.toLowerCase() });
    }
  }
  byId("search").addEventListener("input", showIndex);
  byId("token-form").addEventListener("submit", (event) => event.preventDefault());
  byId("token").addEventListener("change", checkToken);
  byId("theme").addEventListener("click", chooseTheme);
  addEventListener("hashchange", showOperation);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) {
      event.preventDefault();
      byId("search").focus();
    }
  });
  showIndex();
  showOperation();
}

start().catch((problem) => byId("main").replaceChildren(make("p", {}, `The document could not be read: ${problem}`)));
