// A conversation: what is said goes to /v1/chat, and what comes back is drawn while it comes.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const { ask, el, problem, headers, lineOf } = Web;
  const form = document.getElementById("say");
  const log = document.getElementById("talk");
  const status = document.getElementById("talk-status");
  const clock = document.getElementById("talk-clock");
  const words = form.elements.message;
  const who = document.getElementById("talk-user");
  const agent = document.getElementById("talk-agent");
  const CARDS = 12;
  let session = null;
  let busy = null;

  const text = (value, given = {}) => el("span", { class: "t", dir: "auto", ...given }, value);
  const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const shorter = (value, most) => (value.length > most ? `${value.slice(0, most)} …` : value);

  // -- one turn -------------------------------------------------------------------------------
  function opened(message) {
    document.getElementById("talk-start")?.remove();
    const steps = el("ol", { class: "steps" });
    const how = el("details", { class: "how", open: true }, el("summary", {}, "How it got there"), steps);
    const answer = el("p", { class: "answer", dir: "auto" });
    const cards = el("ol", { class: "cards", "aria-label": "What is recommended" });
    const turn = el("article", { class: "turn", "aria-label": "Answer", "aria-busy": "true" }, how, answer, cards);
    log.append(el("p", { class: "said" }, el("span", { class: "unseen" }, "You: "), text(message)), turn);
    turn.scrollIntoView({ block: "end" });
    return { turn, steps, how, answer, cards, user: who.value.trim(), stages: new Set(), before: 0, now: 0 };
  }

  const call = (c) => [el("b", {}, c.tool), " ", el("code", { class: "t" }, Object.entries(c.arguments || {}).map(([k, v]) => `${k}=${shorter(plain(v), 80)}`).join(", "))];

  function found(answer) {
    if (answer === null || answer === undefined) return null;
    const listed = Array.isArray(answer.items) ? answer.items : null;
    if (!listed) return el("details", {}, el("summary", {}, "What it returned"), el("pre", { tabindex: 0 }, shorter(JSON.stringify(answer, null, 2), 4000)));
    const names = listed.slice(0, 5).map((i) => i.name || i.item);
    return el("small", { class: "quiet" }, `${answer.found ?? answer.kept ?? listed.length} items`, names.length ? [": ", text(names.join(" · ")), listed.length > 5 ? " …" : ""] : "");
  }

  // How many items a call took out, and why; the server tells of the last drops alone, so their number comes from the answers.
  function left(view, dropped) {
    const fresh = dropped.filter((d) => !view.stages.has(d.stage));
    for (const d of dropped) view.stages.add(d.stage);
    const gone = view.before - view.now;
    if (!fresh.length || !(gone > 0)) return null;
    const reasons = [...new Set(fresh.map((d) => d.reason))];
    return el("small", { class: "quiet" }, `${gone} left: `, text(reasons.slice(0, 3).join("; ")), reasons.length > 3 ? " …" : "");
  }

  const HEARD = {
    plan: (view, data) => {
      session = data.session || session;
      const calls = data.calls || [];
      view.steps.append(el("li", { class: "plan" }, el("span", { class: "kind" }, "plan"), calls.length ? calls.map((c, i) => [i ? " → " : "", el("b", {}, c.tool)]) : "to answer at once"));
    },
    tool: (view, data) => {
      const body = [el("span", { class: "kind" }, "tool"), call(data)];
      const counted = data.answer?.found ?? data.answer?.kept;
      if (counted !== undefined) [view.before, view.now] = [view.now, counted];
      body.push(data.error ? el("small", { class: "down" }, data.error) : found(data.answer));
      view.last = el("li", { class: data.error ? "failed" : "done" }, body);
      view.steps.append(view.last);
    },
    candidates: (view, data) => {
      if (!view.last) return;
      const told = left(view, data.dropped || []);
      if (told) view.last.append(told);
    },
    degraded: (view, data) => view.steps.append(el("li", { class: "failed" }, el("span", { class: "kind" }, "stand-in"), `The ${data.agent} agent answers in its place: ${data.reason}.`)),
    token: (view, data) => { view.answer.append(data.text || ""); },
    done: (view, data) => {
      session = data.session || session;
      view.answer.textContent = data.text || view.answer.textContent;
      view.how.open = false;
      const took = facts(data);
      if (took) view.turn.append(el("p", { class: "note took" }, took));
      const shown = new Set(data.shown || []);
      const items = (data.items || []).filter((i) => shown.has(i.item)).slice(0, CARDS);
      draw(view, items);
      const lines = view.answer.textContent.trim().split("\n");
      const list = lines.slice(-items.length);  // what the cards show need not stand twice
      if (items.length && list.every((line, at) => line === `${at + 1}. ${items[at].name}`)) view.answer.textContent = lines.slice(0, -items.length).join("\n");
    },
    error: (view, data) => { view.answer.append(el("span", { class: "down" }, data.message || "That did not work.")); },
  };

  // Who answered, how the turn ended, and what it took.
  function facts(data) {
    const parts = [data.by && `answered by the ${data.by} agent`, data.ended && data.ended !== "answered" && `ended at its bound of ${data.ended}`];
    if (data.questions) {
      parts.push(`${data.questions} question${data.questions > 1 ? "s" : ""} to the model`, `${(data.tokens || 0).toLocaleString("en-US")} tokens`);
      parts.push(data.usd === null || data.usd === undefined ? "money unknown" : `$${data.usd.toFixed(4)}`);
    }
    if ((data.failures || []).length) parts.push(`failures: ${data.failures.join(", ")}`);
    return parts.filter(Boolean).join(" · ");
  }

  // What an agent tells that this page knows nothing of is shown as it is.
  const other = (view, name, data) => view.steps.append(el("li", {}, el("span", { class: "kind" }, name), el("code", { class: "t" }, shorter(plain(data), 600))));

  // -- cards ------------------------------------------------------------------------------------
  function draw(view, shown) {
    const reasons = new Map();
    for (const [at, item] of shown.entries()) {
      const why = el("p", { class: "why-line", dir: "auto" });
      reasons.set(item.item, why);
      const verdict = el("p", { class: "note", role: "status" });
      const give = (kind) => el("button", { type: "button", "aria-label": `${kind}: ${item.name}`, onclick: (event) => judge(view, item, kind, verdict, event.currentTarget) }, kind);
      const sources = (item.sources || []).map((s) => el("span", { class: "chip" }, s.replace(/^\d+ /, "").replace(":", " · ")));
      view.cards.append(el("li", { class: "card" }, el("div", { class: "card-head" }, el("span", { class: "n" }, at + 1), el("a", { class: "t", dir: "auto", href: `/item?id=${encodeURIComponent(item.item)}` }, item.name)),
        why, el("div", { class: "sources" }, sources), el("div", { class: "verdict" }, give("Accept"), give("Reject")), verdict));
    }
    if (shown.length && view.user) explain(view, shown, reasons);
  }

  async function explain(view, items, reasons) {
    try {
      const answer = await (await ask("POST", "/v1/explain", { user: view.user, items: items.map((i) => i.item) })).json();
      for (const { item, why, by } of answer.items) {
        if (why) reasons.get(item).append(why, " ", el("small", { class: "quiet" }, `by ${by}`));
      }
    } catch (error) {
      problem(error.message);
    }
  }

  async function judge(view, item, kind, verdict, button) {
    const card = button.closest(".card");
    for (const b of card.querySelectorAll(".verdict button")) b.disabled = true;
    try {
      const told = await (await ask("POST", "/v1/chat/feedback", { session, user: view.user || null, item: item.item, verdict: kind.toLowerCase() })).json();
      card.dataset.verdict = kind.toLowerCase();
      verdict.textContent = told.line;
      card.tabIndex = -1;
      card.focus();
    } catch (error) {
      for (const b of card.querySelectorAll(".verdict button")) b.disabled = false;
      problem(error.message);
    }
  }

  // -- the stream ---------------------------------------------------------------------------------
  async function* events(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const name = part.match(/^event: (.*)$/m)?.[1] || "message";
        const data = part.split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
        yield [name, data ? JSON.parse(data) : {}];
      }
    }
  }

  async function say(message) {
    const view = opened(message);
    const asked = { message, ...(view.user ? { user: view.user } : {}), ...(session ? { session } : {}), ...(agent ? { agent: agent.value } : {}) };
    busy = new AbortController();
    form.classList.add("waiting");
    status.textContent = "Answering …";
    const start = Date.now();
    const ticking = setInterval(() => { clock.textContent = `${Math.round((Date.now() - start) / 1000)} s`; }, 1000);
    let ended = false;
    try {
      const answer = await fetch("/v1/chat", { method: "POST", headers: headers(), body: JSON.stringify(asked), signal: busy.signal });
      if (!answer.ok) throw new Error(lineOf(answer.status, await answer.text()));
      for await (const [name, data] of events(answer)) {
        ended ||= name === "done" || name === "error";
        (HEARD[name] || ((v, d) => other(v, name, d)))(view, data);
      }
      if (!ended) throw new Error("The answer broke off: the server stopped or took too long.");
      status.textContent = "Answered.";
    } catch (error) {
      const line = error.name === "AbortError" ? "Stopped." : error.message;
      view.answer.append(el("span", { class: "down" }, line));
      status.textContent = line;
    } finally {
      busy = null;
      clearInterval(ticking);
      clock.textContent = "";
      view.turn.removeAttribute("aria-busy");
      form.classList.remove("waiting");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (busy) { busy.abort(); return; }
    const message = words.value.trim();
    if (!message) return;
    words.value = "";
    say(message);
    words.focus();
  });
  words.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  document.getElementById("talk-start")?.addEventListener("click", (event) => {
    const line = event.target.closest("button[data-say]");
    if (line) { words.value = line.dataset.say; form.requestSubmit(); }
  });
  who.addEventListener("change", () => { session = null; status.textContent = "A new conversation begins with the next message."; });
});
