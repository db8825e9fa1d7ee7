// The case browser: a list to choose from, and everything about the chosen case.
const CASES = DATA.cases;
const K = Number(DATA.primary.split("@")[1]) || 10;
const find = { text: "", slice: "", outcome: "", system: "" };
let current = null;
let shown = [];

const title = (i) => DATA.items[i][1] || DATA.items[i][0];
const finalStage = (one, name) => (one.lists[name] ? one.lists[name].at(-1) : null);
const firstHit = (ranks) => { const found = ranks.filter(Boolean); return found.length ? Math.min(...found) : 0; };
const truthRank = (one, name) => { const stage = finalStage(one, name); return stage ? firstHit(stage[4]) : null; };
const cameIn = (one, name) => { const stages = one.lists[name]; return stages && stages.length > 1 ? firstHit(stages.at(-2)[4]) : null; };
const hit = (rank) => rank > 0 && rank <= K;

const OUTCOMES = [
  ["", "any outcome"],
  ["hit", `truth in its top ${K}`],
  ["miss", `truth not in its top ${K}`],
  ["lift", "last stage moved the truth up"],
  ["drop", "last stage moved the truth down"],
  ["alone", `only this one has it in its top ${K}`],
  ["failed", "with a failure of the LLM"],
];
const tests = {
  hit: (one) => hit(truthRank(one, find.system)),
  miss: (one) => known(truthRank(one, find.system)) && !hit(truthRank(one, find.system)),
  lift: (one) => { const [a, b] = [cameIn(one, find.system), truthRank(one, find.system)]; return b > 0 && known(a) && (a === 0 || b < a); },
  drop: (one) => { const [a, b] = [cameIn(one, find.system), truthRank(one, find.system)]; return a > 0 && (b === 0 || b > a); },
  alone: (one) => hit(truthRank(one, find.system)) && Object.keys(one.lists).every((n) => n === find.system || (BY_NAME.get(n) || {}).control || !hit(truthRank(one, n))),
  failed: (one) => ((one.notes || {})[find.system] || []).some((n) => n.failures.length || n.exchanges.some((e) => e[2])) || ((one.explanations || {})[find.system] || []).some((e) => e.failure),
};

function matches(one) {
  if (find.slice !== "" && !one.slices.includes(Number(find.slice))) return false;
  if (find.outcome && !tests[find.outcome](one)) return false;
  if (!find.text) return true;
  const words = find.text.toLowerCase();
  return `case ${one.case} user ${one.user}`.toLowerCase().includes(words) || [...one.truth, ...one.history].some((i) => title(i).toLowerCase().includes(words));
}

// -- the list ------------------------------------------------------------------------------------
function drawList() {
  shown = CASES.filter(matches);
  $("case-count").textContent = `${count(shown.length)} of ${count(CASES.length)} cases on this page`;
  $("case-list").replaceChildren(...shown.map((one) => {
    const rank = truthRank(one, find.system);
    return el("div", { class: "option", role: "option", id: `option-${one.case}`, "aria-selected": "false", onclick: () => choose(one) },
      el("p", { class: "t", dir: "auto" }, one.truth.map(title).join(", ") || "no truth recorded"),
      el("div", {}, el("span", {}, `case ${one.case} · user ${one.user}`), el("span", { class: hit(rank) ? "up" : "" }, !known(rank) ? "not run" : rank ? `rank ${rank}` : "not found")));
  }));
  if (!shown.length) $("case-list").append(el("p", { class: "note", style: { padding: "12px" } }, "No case fits. Loosen the filters."));
  mark();
}

function mark() {
  const list = $("case-list");
  for (const option of list.querySelectorAll('[aria-selected="true"]')) option.setAttribute("aria-selected", "false");
  const option = current && $(`option-${current.case}`);
  if (!option) { list.removeAttribute("aria-activedescendant"); return; }
  option.setAttribute("aria-selected", "true");
  list.setAttribute("aria-activedescendant", option.id);
  const [top, bottom] = [option.offsetTop - list.offsetTop, option.offsetTop - list.offsetTop + option.offsetHeight];
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}

function choose(one) {
  current = one;
  mark();
  drawCase();
}

function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(current);
  choose(shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by))]);
}

function keys(event) {
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const by = moves[event.key];
  step(Number.isFinite(by) ? by : by < 0 ? -shown.length : shown.length);
}

// From the leaderboard to a system's cases.
function showSystem(name) {
  find.system = name;
  for (const select of $("case-tools").querySelectorAll('select[data-for="system"]')) select.value = name;
  drawList();
  if (shown.length && !(current && current.lists[name])) choose(shown.find((one) => one.lists[name]) || shown[0]);
  else if (current) drawCase();
  $("cases").scrollIntoView();
  $("case-list").focus({ preventScroll: true });
}

// -- the case --------------------------------------------------------------------------------------
function history(one, all) {
  const whole = one.history;
  const from = all ? 0 : Math.max(0, whole.length - 12);
  const earlier = one.length - whole.length;
  const entries = whole.slice(from).map((i, j) => el("li", { "data-item": i },
    el("span", { class: "ord" }, from + j === whole.length - 1 ? "most recent" : `−${whole.length - from - j - 1}`), untrusted(title(i))));
  const more = from > 0 && el("li", { class: "more" }, el("button", { type: "button", onclick: (event) => event.target.closest("ol").replaceWith(history(one, true)) }, `${from} earlier`));
  const gone = from === 0 && earlier > 0 && el("li", { class: "more quiet small" }, `${count(earlier)} earlier not on this page …`);
  const next = one.truth.map((i) => el("li", { class: "next" }, el("span", { class: "ord" }, "truth →"), untrusted(title(i)), known(DATA.items[i][2]) ? el("span", { class: "ord" }, ` seen ${count(DATA.items[i][2])}× in training`) : null));
  return el("ol", { class: "history", "aria-label": "History, oldest first, then the truth" }, more, gone, entries, next);
}

function strip(one) {
  const log = (r) => percent(Math.log(r) / Math.log(100));
  const marks = [1, 3, 10, 30, 100];
  const rows = Object.keys(one.lists).map((name) => {
    const s = BY_NAME.get(name);
    const rank = truthRank(one, name);
    const before = cameIn(one, name);
    const zone = el("i", { class: "hitzone", style: { width: log(K) } });
    const moved = before && rank && before !== rank;
    const line = moved && el("i", { class: "whisker", style: { left: log(Math.min(before, rank)), width: `calc(${log(Math.max(before, rank))} - ${log(Math.min(before, rank))})`, opacity: 0.5 } });
    const old = moved && el("i", { class: "dot hollow", style: { left: log(before), transform: "scale(0.7)" } });
    return el("tr", { "aria-current": name === find.system ? "true" : null, class: s.control ? "control" : null },
      el("th", { scope: "row" }, el("button", { type: "button", "aria-pressed": String(name === find.system), onclick: () => pickSystem(name, true) }, badge(s), untrusted(s.label))),
      el("td", {}, rank ? el("b", { class: hit(rank) ? "up" : "" }, rank) : el("span", { class: "quiet" }, "–")),
      el("td", { class: "where" }, el("div", { class: "track", "aria-hidden": "true", style: { color: color(s) } }, zone, marks.map((m) => el("i", { class: "tick", style: { left: log(m) } })), line, old, rank ? el("i", { class: "dot", style: { left: log(Math.min(rank, 100)) } }) : null),
        el("span", { class: "unseen" }, moved ? `was at ${before} before the last stage` : "")));
  });
  const head = el("div", { class: "axis", "aria-hidden": "true" }, marks.map((m) => el("span", { class: m === 100 ? "edge" : null, style: { left: log(m) } }, m)));
  return region("Rank of the truth", el("table", { class: "strip" }, el("caption", {}, el("div", {}, "Where each system put the truth", el("small", {}, `Shaded: top ${K}. Hollow: before the last stage. No mark: not among the items that the list holds.`))),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "l" }, "System"), el("th", { scope: "col" }, "Rank"), el("th", { scope: "col", class: "l" }, head))), el("tbody", {}, rows)));
}

function pickSystem(name, focus) {
  find.system = name;
  for (const select of $("case-tools").querySelectorAll('select[data-for="system"]')) select.value = name;
  drawList();
  drawCase();
  if (focus) { const button = $("case").querySelector('tr[aria-current] button'); if (button) button.focus(); }
}

function move(rank, came, kind) {
  if (!came) return el("span", { class: "m up", title: `not in the list before` }, kind === "fuse" ? "" : "new");
  if (came === rank) return el("span", { class: "m", title: "as before" }, "=");
  const up = came > rank;
  return el("span", { class: `m ${up ? "up" : ""}`, title: `${up ? "up" : "down"} from ${came}` }, `${up ? "▲" : "▼"}${Math.abs(came - rank)}`);
}

function stageColumn(one, stage) {
  const [name, items, scores, length, ranks, sources] = stage;
  const [kind, ...rest] = DATA.stages[name].split(":");
  const from = (row) => {
    if (sources.length === 1) return move(row + 1, sources[0][1][row], kind);
    return sources.length ? el("span", { class: "m", title: sources.map(([s, r]) => `${DATA.stages[s]}: ${r[row] || "not found"}`).join("\n") }, sources.map(([, r]) => r[row] || "·").join(" ")) : null;
  };
  const entry = (rank, item, extra, score) => el("li", { class: one.truth.includes(item) ? "truth" : null, title: known(score) ? `${title(item)}\nscore ${score}` : title(item) },
    el("span", { class: "n" }, rank), untrusted(title(item)), one.truth.includes(item) ? el("span", { class: "unseen" }, "(truth)") : null, extra);
  const rows = items.map((item, row) => entry(row + 1, item, from(row), scores[row]));
  ranks.forEach((rank, i) => { if (rank > items.length) rows.push(el("li", { class: "gap" }, el("span", { class: "n" }, "⋮"), `${rank - items.length - 1} more`), entry(rank, one.truth[i], null)); });
  const detail = [`${length} items`];
  if (sources.length > 1) detail.push(`ranks in ${sources.map(([s]) => DATA.stages[s].split(":").at(-1)).join(", ")}`);
  return el("div", { class: "stage" }, el("h4", {}, el("span", { class: "t" }, rest.length ? `${kind} · ${rest.join(":")}` : kind), el("small", {}, detail.join(" · "))), el("ol", {}, rows));
}

function gutter(one, before, after) {
  const row = 26;
  const n = Math.max(before[1].length, after[1].length);
  const lines = after[1].map((item, to) => {
    const at = before[1].indexOf(item);
    if (at < 0) return null;
    const [y0, y1] = [at * row + row / 2, to * row + row / 2];
    return svg("path", { class: one.truth.includes(item) ? "true" : to < at ? "rise" : null, d: `M0 ${y0}C26 ${y0} 20 ${y1} 46 ${y1}` });
  });
  return el("div", { class: "gutter", "aria-hidden": "true" }, svg("svg", { width: 46, height: n * row, viewBox: `0 0 46 ${n * row}` }, lines));
}

function stages(one, s) {
  const all = one.lists[s.name];
  const row = el("div", { class: "stages-in" });
  all.forEach((stage, i) => {
    const flows = i > 0 && stage[5].length === 1 && stage[5][0][0] === all[i - 1][0];
    if (i) row.append(flows ? gutter(one, all[i - 1], stage) : el("div", { class: "gutter", style: { flex: "0 0 18px" } }));
    row.append(stageColumn(one, stage));
  });
  return el("div", { class: "stages", role: "region", tabindex: 0, "aria-label": `Lists of ${s.label}, stage by stage` }, row);
}

function words(i, missing = "No text was recorded.") {
  if (i === null) return el("p", { class: "note" }, missing);
  if (i < 0) return el("p", { class: "note" }, "Left out to keep this page small; it stands in notes.parquet or explanations.parquet of the run.");
  return el("pre", { tabindex: 0, dir: "auto" }, DATA.texts[i]);
}

function tally(kinds) {
  const times = new Map();
  for (const kind of kinds) times.set(kind, (times.get(kind) || 0) + 1);
  return [...times].map(([kind, n]) => kind.replaceAll("_", " ") + (n > 1 ? ` × ${n}` : "")).join(", ");
}

function exchanges(note) {
  const parts = note.exchanges.map(([prompt, answer, failure], i) => el("div", { class: "exchange" },
    el("h4", {}, note.exchanges.length > 1 ? `Prompt ${i + 1} of ${note.exchanges.length}` : "Prompt"), words(prompt), el("h4", {}, "Raw answer ", failure ? el("span", { class: "chip bad" }, failure) : null), words(answer, "The model gave no text.")));
  const [first, ...rest] = parts;
  return [first, rest.length ? el("details", {}, el("summary", {}, `${rest.length} more exchange${rest.length > 1 ? "s" : ""}`), rest) : null];
}

const OPERATORS = { "=": "=", "!=": "≠", "<": "<", "<=": "≤", ">": ">", ">=": "≥", contains: "contains" };
const AMOUNTS = { "count=": "exactly", "count>=": "at least", "count<=": "at most" };
const VERDICTS = { true: ["good", "✓ true"], false: ["bad", "✗ false"], unresolvable: ["", "? unresolvable"], unstated: ["", "· not stated in the sentence"] };

function claim(c) {
  const stated = [c.attribute, c.operator in AMOUNTS ? "=" : OPERATORS[c.operator] || (known(c.value) && c.attribute ? "=" : null), c.value].filter((x) => known(x) && x !== "");
  const text = c.attribute || known(c.value) ? stated.join(" ") : "";
  const item = known(c.item) ? title(c.item) : "";
  const amount = c.operator in AMOUNTS ? `${AMOUNTS[c.operator]} ${known(c.count) ? count(c.count) : "?"} of the history` : "";
  const words = [amount, text, item && (c.kind === "shared" ? `shared with ${item}` : item)].filter(Boolean).join(" · ");
  const [paint, verdict] = VERDICTS[c.outcome] || ["", ""];
  return el("span", { class: `chip ${paint}`, dir: "auto" }, el("span", { class: "t" }, `${c.kind || "claim"}${words ? `: ${words}` : ""}`), verdict ? ` ${verdict}` : null);
}

const MARKED = { true: "a true claim", false: "a false claim", unresolvable: "a claim that cannot be resolved", unstated: "a claim that is not stated", unsupported: "nothing supports this" };
const stretch = ([text, mark]) => (mark ? el("mark", { class: mark, title: MARKED[mark] }, text, mark === "true" ? null : el("span", { class: "unseen" }, ` (${MARKED[mark]})`)) : text);

function explanation(one, e) {
  const fell = known(e.fidelity) && tip(el("span", { class: "chip", tabindex: 0 }, `fidelity ${signed(e.fidelity, 2)}`), "log2 of the fall in rank without the cited history items, less that without as many random ones: above 0, the recommendation rests on what is cited");
  return el("li", {}, el("p", { class: "quiet small" }, `${e.rank}. `, untrusted(title(e.item)), one.truth.includes(e.item) ? " (the truth)" : ""),
    e.failure ? el("p", {}, el("span", { class: "chip bad" }, `failed: ${e.failure}`)) : null,
    e.sentence.length ? el("p", { class: "says t", dir: "auto" }, e.sentence.map(stretch)) : null,
    e.unsupported.length ? el("p", { class: "small" }, el("span", { class: "quiet" }, "Also named, and supported by nothing: "), untrusted(e.unsupported.join(", "))) : null,
    e.claims.length || fell ? el("div", { class: "claims" }, e.claims.map(claim), fell) : null,
    e.drafts.length ? el("details", {}, el("summary", {}, `Drafts that did not hold (${count(e.drafts.length)})`), e.drafts.map((draft) => words(draft))) : null,
    e.prompt !== null || e.answer !== null ? el("details", {}, el("summary", {}, "Prompt and raw answer"), words(e.prompt), el("h4", { class: "quiet small" }, "Raw answer"), words(e.answer, "The model gave no text.")) : null);
}

// What the augmenters of a system added to all items; what they made known of a case's user stands beside it.
function additions(s) {
  const line = (a) => {
    const columns = Object.entries(a.columns).map(([column, n]) => [el("code", { class: "t" }, column), ` for ${count(n)} items`]);
    const listed = columns.flatMap((part, i) => (i ? [", ", part] : [part]));
    return el("li", {}, untrusted(a.name), ": ", listed.length ? listed : "no column of the items", known(a.seconds) ? el("span", { class: "quiet" }, `, ${seconds(a.seconds)}`) : null);
  };
  return el("details", { open: true, class: "added" }, el("summary", {}, "What augmenters added"), el("ul", { class: "lines" }, s.additions.map(line)));
}

function drawCase() {
  const one = current;
  const date = known(one.time) && one.time > 1e8 && one.time < 1e11 ? new Date(one.time * 1000).toISOString().slice(0, 10) : null;
  const s = BY_NAME.get(find.system);
  const parts = [
    el("div", { class: "case-head" }, el("div", {}, el("h3", { id: "case-title" }, `Case ${one.case}, user `, untrusted(one.user)),
      el("p", { class: "quiet small" }, [date, `history of ${count(one.length)}`, one.sample && HAS_SAMPLE ? "in the LLM sample" : null].filter(Boolean).join(" · "), one.slices.map((i) => el("span", { class: "chip" }, DATA.slices[i].replaceAll("_", " "))))),
      el("div", { class: "choice" }, el("button", { type: "button", onclick: () => step(-1) }, "← Previous"), el("button", { type: "button", onclick: () => step(1) }, "Next →"))),
    el("h3", {}, "History"), one.history.length || one.truth.length ? history(one, false) : null,
    el("h3", {}, "Ranks"), strip(one),
  ];
  if (!s || !one.lists[s.name]) parts.push(el("p", { class: "callout" }, `${s ? s.label : "This system"} did not answer this case: it ran on the sample. Choose another system above.`));
  else {
    const seed = DATA.seeds[s.name];
    parts.push(el("h3", {}, "Lists of ", untrusted(s.label), known(seed) && s.seeds.length > 1 ? el("span", { class: "quiet small" }, ` seed ${seed}, the first of ${s.seeds.length}`) : null), stages(one, s));
    if (s.additions.length) parts.push(additions(s));
    const told = (one.profiles || {})[s.name] || [];
    if (told.length) parts.push(el("details", { open: true }, el("summary", {}, "What was remembered of the user"), told.map(([stage, text]) => [el("h4", { class: "quiet small" }, DATA.stages[stage]), words(text)])));
    for (const note of (one.notes || {})[s.name] || []) {
      const stage = DATA.stages[note.stage];
      if (note.failures.length) parts.push(el("p", { class: "callout" }, `${stage}: `, tally(note.failures)));
      if (note.dropped.length) parts.push(el("details", {}, el("summary", {}, `${note.dropped.length} items dropped by ${stage}`), el("ul", { class: "dropped" }, note.dropped.map(([i, reason]) => el("li", {}, untrusted(title(i)), el("span", { class: "quiet" }, ` ${reason}`))))));
      if (note.exchanges.length) parts.push(el("h3", {}, `What the model was asked by ${stage}`), ...exchanges(note).filter(Boolean));
    }
    const why = (one.explanations || {})[s.name] || [];
    if (why.length) parts.push(el("h3", {}, "Explanations"), el("ol", { class: "why" }, why.map((e) => explanation(one, e))));
  }
  $("case").replaceChildren(...parts.filter(Boolean));
  try { window.history.replaceState(null, "", `#case=${one.case}&system=${encodeURIComponent(find.system)}`); } catch { /* a sandbox may forbid it */ }
}

function drawCases() {
  const left = DATA.left_out;
  const notes = [`${count(CASES.length)} of ${count(DATA.all)} cases are on this page, with the first ${DATA.top} items of each list`];
  if (HAS_SAMPLE) notes[0] += ", those of the LLM sample first";
  if (left.texts) notes.push(`${count(left.texts)} prompts and answers were left out for size`);
  if (left.cut) notes.push(`${count(left.cut)} long ones were cut in the middle`);
  $("cases-sub").textContent = `Choose a case to see what each system made of it. ${notes.join("; ")}. Everything stands in the run’s own files.`;
  if (!CASES.length) { $("case-list").append(el("p", { class: "note" }, "No case fits on this page.")); return; }
  const wanted = new URLSearchParams(location.hash.slice(1));
  const cascades = SYSTEMS.filter((s) => s.stages.length > 1 && CASES.some((one) => one.lists[s.name]));
  const start = BY_NAME.get(wanted.get("system")) || cascades.at(-1) || SYSTEMS.find((s) => CASES.some((one) => one.lists[s.name])) || SYSTEMS[0];
  find.system = start.name;
  const input = el("input", { type: "search", "aria-label": "Search", placeholder: "title, user or case number", oninput: () => { find.text = input.value.trim(); drawList(); } });
  const system = chooser("System", SYSTEMS.map((s) => [s.name, s.label]), find.system, (v) => (current ? pickSystem(v, false) : showSystem(v)));
  system.lastChild.dataset.for = "system";
  fill($("case-tools"), [
    el("label", {}, "Search", input),
    system,
    chooser("Outcome", OUTCOMES, "", (v) => { find.outcome = v; drawList(); }),
    chooser("Slice", [["", "all"], ...DATA.slices.map((s, i) => [String(i), s.replaceAll("_", " ")])], "", (v) => { find.slice = v; drawList(); }),
  ]);
  drawList();
  $("case-list").addEventListener("keydown", keys);
  const named = CASES.find((one) => String(one.case) === wanted.get("case"));
  const telling = shown.find((one) => one.explanations && tests.lift(one) && hit(truthRank(one, find.system)));
  const quiet = location.hash;
  choose(named || telling || shown.find((one) => one.lists[find.system] && hit(truthRank(one, find.system))) || shown[0]);
  if (!named) { try { window.history.replaceState(null, "", quiet || location.pathname); } catch { /* a sandbox may forbid it */ } }
  else $("cases").scrollIntoView();
}
