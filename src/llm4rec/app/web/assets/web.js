// What all pages share: the theme, one line for every error, and how a page writes (JSON, with its token).
"use strict";
const Web = (() => {
  const THEMES = ["auto", "light", "dark"];
  const stored = () => { try { return localStorage.getItem("llm4rec-theme") || "auto"; } catch { return "auto"; } };

  function paint(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    if (!button) return;
    button.textContent = name[0].toUpperCase() + name.slice(1);
    button.setAttribute("aria-label", `Colour theme: ${name === "auto" ? "automatic" : name}`);
    button.dataset.now = name;
  }

  paint(THEMES.includes(stored()) ? stored() : "auto"); // before the page is drawn

  function problem(line) {
    const box = document.getElementById("problem");
    box.querySelector("span").textContent = line;
    box.hidden = !line;
  }

  const token = () => document.querySelector('meta[name="csrf"]')?.content;
  const headers = () => ({ "Content-Type": "application/json", ...(token() ? { "X-CSRF-Token": token() } : {}) });

  // The line of an answer that is an error; whoever is not signed in any more is led to where one signs in.
  function lineOf(status, body) {
    if (status === 401 && location.pathname !== "/sign-in" && token()) location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    try {
      const told = JSON.parse(body).error;
      return told.message;
    } catch {
      return status ? `The server answered with status ${status}.` : "The server cannot be reached.";
    }
  }

  // Ask the API: returns the answer, or throws an error whose message is one line.
  async function ask(method, path, body) {
    let answer;
    try {
      answer = await fetch(path, { method, headers: headers(), body: body === undefined ? undefined : JSON.stringify(body) });
    } catch {
      throw new Error("The server cannot be reached.");
    }
    if (!answer.ok) throw new Error(lineOf(answer.status, await answer.text()));
    return answer;
  }

  const el = (tag, given = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) node.append(child instanceof Node ? child : String(child));
    return node;
  };

  function signIn(form) {
    const line = form.querySelector('[role="alert"]');
    if (!window.isSecureContext) {
      line.textContent = "A key must not travel in the clear: open this page over HTTPS, or on the machine that serves it.";
      for (const field of form.elements) field.disabled = true;
      return;
    }
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      line.textContent = "";
      try {
        await ask("POST", "/sign-in", { key: form.elements.key.value });
        location.assign(form.dataset.next);
      } catch (error) {
        line.textContent = error.message;
        form.elements.key.select();
      }
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    paint(document.documentElement.dataset.theme || "auto");
    document.getElementById("theme").addEventListener("click", (event) => {
      const next = THEMES[(THEMES.indexOf(event.currentTarget.dataset.now) + 1) % THEMES.length];
      try { localStorage.setItem("llm4rec-theme", next); } catch { /* storage may be switched off */ }
      paint(next);
    });
    document.querySelector("#problem button").addEventListener("click", () => problem(""));
    document.getElementById("sign-out")?.addEventListener("click", async () => {
      try { await ask("POST", "/sign-out", {}); } catch { /* gone already */ }
      location.assign("/sign-in");
    });
    const form = document.getElementById("sign-in");
    if (form) signIn(form);
    if (window.htmx) connect();
    document.querySelector('.bar nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });
  });

  // htmx: what it sends is JSON, what it is refused is one line.
  function connect() {
    htmx.defineExtension("as-json", {
      onEvent: (name, event) => { if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json"; },
      encodeParameters: (request, values) => JSON.stringify(Object.fromEntries(values)),
    });
    document.body.addEventListener("htmx:configRequest", (event) => { if (token()) event.detail.headers["X-CSRF-Token"] = token(); });
    document.body.addEventListener("htmx:beforeRequest", () => problem(""));
    document.body.addEventListener("htmx:responseError", ({ detail }) => problem(lineOf(detail.xhr.status, detail.xhr.responseText)));
    document.body.addEventListener("htmx:sendError", () => problem("The server cannot be reached."));
    document.body.addEventListener("htmx:timeout", () => problem("The server took too long."));
    // What a reader is told of a part that has changed: a region that is swapped itself would not be read out.
    document.body.addEventListener("htmx:afterSettle", ({ detail }) => {
      const line = detail.target?.querySelector?.("[data-said]");
      if (line) document.getElementById("said").textContent = line.textContent;
    });
    // <button data-then="EVENT">: once what it asked for is done, EVENT tells others to load anew.
    document.body.addEventListener("htmx:afterRequest", ({ detail }) => {
      const then = detail.successful && detail.elt.closest?.("[data-then]")?.dataset.then;
      if (then) htmx.trigger(document.body, then);
    });
  }

  return { ask, el, problem, headers, lineOf };
})();
