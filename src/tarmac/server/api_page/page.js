// Every operation of this server with a form to try it, made from its OpenAPI document.
"use strict";

const base = location.pathname.replace(/docs$/, "");
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// The fields of an operation: query parameters, or the properties of its body.
function fieldsOf(method, operation, schemas) {
  if (method === "get") return operation.parameters.filter((p) => p.in === "query");
  const reference = operation.requestBody.content["application/json"].schema.$ref;
  const shape = schemas[reference.split("/").pop()];
  const required = shape.required ?? [];
  return Object.entries(shape.properties ?? {}).map(([name, schema]) => ({ name, schema, required: required.includes(name) }));
}

const isText = (schema) => [schema, ...(schema.anyOf ?? [])].some((s) => s.type === "string" || (s.enum ?? []).some((v) => typeof v === "string"));

async function call(name, method, fields, form) {
  const values = {};
  for (const field of fields) {
    const text = form.elements[field.name].value;
    if (text === "") continue;
    values[field.name] = isText(field.schema) || method === "get" ? text : JSON.parse(text);
  }
  const project = encodeURIComponent(document.getElementById("project").value || "default");
  const url = `${base}api/v1/p/${project}/${name}`;
  if (method === "get") return fetch(`${url}?${new URLSearchParams(values)}`);
  return fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) });
}

function describe(schema) {
  const limits = [schema, ...(schema.anyOf ?? [])].map((s) => s.description ?? (s.enum ? s.enum.join(" | ") : s.type)).filter((t) => t && t !== "null");
  return limits.join(", ") + (schema.default !== undefined && schema.default !== null && schema.default !== "" ? ` (default ${JSON.stringify(schema.default)})` : "");
}

function show(method, operation, schemas) {
  const name = operation.operationId;
  const fields = fieldsOf(method, operation, schemas);
  const answer = make("pre", { hidden: true });
  const form = make("form");
  for (const field of fields) {
    form.append(make("label", { textContent: field.name + (field.required ? " *" : ""), htmlFor: `${name}-${field.name}` }));
    form.append(make("input", { id: `${name}-${field.name}`, name: field.name, required: field.required, autocomplete: "off" }));
    form.append(make("small", { textContent: describe(field.schema) }));
  }
  form.append(make("button", { textContent: `${method.toUpperCase()} ${name}` }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.hidden = false;
    try {
      const response = await call(name, method, fields, form);
      answer.className = response.ok ? "" : "bad";
      answer.textContent = `${response.status}\n${JSON.stringify(await response.json(), null, 2)}`;
    } catch (error) {
      answer.className = "bad";
      answer.textContent = String(error);
    }
  });
  const needs = operation["x-needs"] + (operation["x-scope"] === "workspace" ? ", whole workspace" : "");
  const details = make("details", { id: name },
    make("summary", {}, make("b", { className: `method ${method}`, textContent: method.toUpperCase() }), make("code", { textContent: name }), make("span", { textContent: operation.summary })),
    make("p", { textContent: `${operation.description} Needs: ${needs}.${operation["x-kind"] === "job" ? " A job: answers with an id, see jobs.show." : ""}` }),
    form, answer);
  return details;
}

async function start() {
  const main = document.getElementById("operations");
  const response = await fetch(`${base}api/v1/openapi.json`);
  const document_ = await response.json();
  if (!response.ok) {
    main.replaceChildren(make("pre", { className: "bad", textContent: `${document_.error.message}\n${document_.error.hint ?? ""}` }));
    return;
  }
  main.replaceChildren();
  let group = "";
  for (const path of Object.keys(document_.paths).sort()) {
    for (const [method, operation] of Object.entries(document_.paths[path])) {
      if (operation.tags[0] !== group) main.append(make("h2", { textContent: (group = operation.tags[0]) }));
      main.append(show(method, operation, document_.components.schemas));
    }
  }
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    for (const entry of main.querySelectorAll("details")) entry.hidden = !entry.textContent.toLowerCase().includes(filter.value.toLowerCase());
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target.tagName !== "INPUT") { event.preventDefault(); filter.focus(); }
  });
  if (location.hash) document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
}

start();
