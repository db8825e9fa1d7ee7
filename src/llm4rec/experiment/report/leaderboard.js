// The tables: leaderboard (one for each set of cases), every metric, beyond accuracy, failures.

// A table whose columns sort.  A column: {name, cell(row)}, and where it has them key, title, left,
// value(row) to sort by, descending (first press), head (below the name), share(row) as a pale bar.
function sortable(caption, columns, rows, { sort = null, descending = true, rowClass = () => "" } = {}) {
  let state = { column: columns.find((c) => c.key === sort) || null, descending };
  const body = el("tbody");
  const heads = columns.map((c) => {
    const button = el("button", { type: "button", title: c.title || null, onclick: () => {
      state = { column: c, descending: state.column === c ? !state.descending : c.descending !== false };
      draw();
    } }, c.name);
    return el("th", { scope: "col", class: c.left ? "l" : null, style: c.width ? { width: c.width } : null }, c.value ? button : c.name, c.head || null);
  });
  function draw() {
    const sorted = [...rows];
    if (state.column) {
      const sign = state.descending ? -1 : 1;
      const value = (r) => state.column.value(r);
      sorted.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!known(x) || !known(y)) return known(x) ? -1 : known(y) ? 1 : 0;
        return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
      });
    }
    heads.forEach((h, i) => {
      if (columns[i] === state.column) h.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else h.removeAttribute("aria-sort");
    });
    body.replaceChildren(...sorted.map((row) => el("tr", { class: rowClass(row), "data-system": row.name || null },
      columns.map((c, i) => el(i ? "td" : "th", {
        scope: i ? null : "row", class: c.left ? "l" : c.share ? "share" : null, style: c.share ? { "--w": percent(c.share(row)) } : null,
      }, c.cell(row))))));
  }
  draw();
  return el("table", {}, el("caption", {}, el("div", {}, caption)), el("thead", {}, el("tr", {}, heads)), body);
}

function who(s, link = true) {
  const chips = [s.control && [" ", el("span", { class: "chip" }, "control")], s.llm && [" ", el("span", { class: "chip llm" }, "LLM")]];
  const under = [s.component && s.component !== s.name ? s.component : s.family];
  if (s.seeds.length > 1) under.push(`${s.seeds.length} seeds`);
  const name = link ? el("button", { type: "button", class: "t", title: "See its cases", onclick: () => showSystem(s.name) }, s.label) : el("strong", { class: "t" }, s.label);
  return el("div", { class: "who" }, badge(s), el("div", {}, name, chips,
    el("small", { class: "component" }, under.join(" · ")), s.models ? el("small", { class: "t" }, s.models) : null));
}
const systemColumn = { name: "System", left: true, width: "25%", value: (s) => s.label.toLowerCase(), descending: false, cell: (s) => who(s) };

// -- a bar with its interval -------------------------------------------------------------------
function track(scale, marks, s, { hollow = s.control, bar = false } = {}) {
  const { low, high, mean: middle } = marks;
  const at = (v) => percent(Math.min(1, Math.max(0, (v - scale.low) / (scale.high - scale.low))));
  const wide = (a, b) => percent(Math.max(0, (Math.min(b, scale.high) - Math.max(a, scale.low)) / (scale.high - scale.low)));
  return el("div", { class: "track", "aria-hidden": "true", style: { color: color(s) } },
    scale.ticks.map((t) => el("i", { class: t === 0 && scale.low < 0 ? "zero" : "tick", style: { left: at(t) } })),
    bar ? el("i", { class: "bar-fill", style: { width: wide(scale.low, middle) } }) : null,
    known(low) && known(high) ? el("i", { class: "whisker", style: { left: at(low), width: wide(low, high) } }) : null,
    el("i", { class: hollow ? "dot hollow" : "dot", style: { left: at(middle) } }));
}

function scaleFor(figures, { zero = true, wanted = 4 } = {}) {
  const all = figures.flatMap((f) => [f.low, f.high, f.mean]).filter(known);
  let [low, high] = [Math.min(...all), Math.max(...all)];
  if (zero) low = Math.min(0, low);
  if (!(high > low)) high = low + (Math.abs(low) || 1);
  const pad = (high - low) * 0.03;
  high += pad;
  if (low < 0) low -= pad;
  return { low, high, ticks: ticks(low, high, wanted) };
}
const axis = (scale, given = "") => el("div", { class: `axis ${given}`, "aria-hidden": "true" }, scale.ticks.map((t) => {
  const at = (t - scale.low) / (scale.high - scale.low);
  return el("span", { class: at > 0.95 ? "edge" : null, style: { left: percent(at) } }, tickLabel(t));
}));

// -- leaderboard -------------------------------------------------------------------------------
const board = { metric: DATA.primary, reference: "" };

function secondary(part) {
  const [name, k] = board.metric.split("@");
  const have = (m) => m !== board.metric && inPart(part, m).length;
  const wanted = [`ndcg@${k}`, `recall@${k}`, `hit@${k}`, `mrr@${k}`, ...DATA.metrics.filter((m) => m.startsWith(`${name}@`) || m.startsWith("recall@"))].filter(have);
  const single = (m) => (inPart(part, m).every((s) => mean(s, part, m) === mean(s, part, m.replace("hit@", "recall@"))));
  return [...new Set(wanted)].filter((m) => !(m.startsWith("hit@") && wanted.includes(m.replace("hit@", "recall@")) && single(m))).slice(0, inPart(part).some((s) => s.llm) ? 1 : 3);
}

// Only a test on the very cases of this table counts in it; without one the plain difference is shown.
function significance(s, reference, part) {
  if (!reference || s === reference) return { rank: 0, node: el("span", { class: "quiet" }, reference ? "reference" : "–") };
  const tested = board.metric === DATA.primary ? paired(s, reference) : null;
  const d = tested && (!known(tested.n) || tested.n === partSize(part)) ? tested : null;
  if (!d) {
    const plain = mean(s, part, board.metric) - mean(reference, part, board.metric);
    return { rank: plain, node: tip(el("span", { class: "quiet", tabindex: 0 }, signed(plain)), `${s.label} − ${reference.label}: not tested for this metric on these cases`) };
  }
  const sure = clear(d);
  const word = !sure ? "not told apart" : d.difference > 0 ? "better" : "worse";
  const sign = !sure ? "≈" : d.difference > 0 ? "▲" : "▼";
  const node = el("span", { class: !sure ? "same" : d.difference > 0 ? "up" : "down", tabindex: 0 }, `${sign} ${signed(d.difference)}`, el("span", { class: "unseen" }, ` ${word}`));
  return { rank: d.difference, node: tip(node, `${s.label} − ${reference.label}: ${word}\n${signed(d.difference)}, interval ${span(d, signed)}\np after Holm ${pvalue(d.p_holm)}, ${count(d.n)} cases`) };
}

function leaderboardOf(part) {
  const { metric } = board;
  const rows = inPart(part, metric);
  if (!rows.length) return null;
  const top = best(rows.filter((s) => !s.control), part, metric);
  const chosen = BY_NAME.get(board.reference);
  const sampled = part === "sample" && HAS_ALL ? best(rows.filter((s) => s.sampled && !s.control), part, metric) : null;
  const reference = chosen && chosen.metrics[part][metric] ? chosen : sampled || top;
  const scale = scaleFor(rows.map((s) => s.metrics[part][metric]));
  const costly = rows.some((s) => s.cost.calls || s.cost.cached || s.llm);
  const leads = new Map(secondary(part).map((m) => [m, best(rows.filter((s) => !s.control), part, m)]));
  const columns = [
    systemColumn,
    { key: "main", name: metricName(metric), value: (s) => mean(s, part, metric), width: "24%", head: axis(scale, "beside"), left: true, cell: (s) => {
      const f = s.metrics[part][metric];
      const deviation = s.seed_deviation[metric];
      const cell = el("div", { class: "meter", tabindex: 0 }, el("b", { class: s === top ? "lead" : "" }, fixed(f.mean)), track(scale, f, s, { bar: true }), el("span", { class: "unseen" }, `interval ${span(f)}`));
      return tip(cell, `${s.label}: ${metricName(metric)} ${fixed(f.mean)}\n95 % interval ${span(f)}\n${count(f.n)} cases${known(deviation) ? `\nstandard deviation over seeds ${fixed(deviation)}` : ""}${metric === DATA.primary ? standardErrors(s) : ""}`);
    } },
    { name: reference === chosen ? "vs reference" : reference === top ? "vs best" : "vs best LLM", title: reference ? `Paired difference to ${reference.label}` : null, value: (s) => significance(s, reference, part).rank, cell: (s) => significance(s, reference, part).node },
    ...[...leads].map(([m, lead]) => ({ name: metricName(m), value: (s) => mean(s, part, m), cell: (s) => el("span", { class: lead === s ? "lead" : null }, fixed(mean(s, part, m))) })),
    { name: "Fit", title: "Wall time of training", descending: false, value: (s) => s.fit_seconds, cell: (s) => seconds(s.fit_seconds) },
    { name: "Per query", title: "Wall time of one query, in a batch", descending: false, value: (s) => s.ms_per_query, cell: (s) => seconds(known(s.ms_per_query) ? s.ms_per_query / 1000 : null) },
  ];
  if (costly) {
    const calls = (s) => (s.cost.calls || 0);
    columns.push(
      { name: "Calls", title: "Calls of a language model", value: calls, cell: (s) => (s.llm || calls(s) ? tip(el("span", { tabindex: 0 }, large(calls(s))), `${count(calls(s))} calls, ${count(s.cost.cached || 0)} of them answered from the store`) : el("span", { class: "quiet" }, "none")) },
      { name: "Tokens", value: tokens, cell: (s) => (tokens(s) ? tip(el("span", { tabindex: 0 }, large(tokens(s))), `${count(s.cost.tokens_in)} in, ${count(s.cost.tokens_out)} out`) : el("span", { class: "quiet" }, s.llm ? "–" : "none")) },
      { name: "Money", title: "US dollars of this run", value: money, cell: (s) => el("span", { class: known(money(s)) && money(s) ? null : "quiet" }, s.llm ? dollars(money(s)) : "0") });
  }
  if (metric === DATA.primary && rows.some((s) => s.below[part])) {
    const over = (s) => (s.below[part] || []).map((n) => BY_NAME.get(n)).filter(Boolean);
    columns.push({ name: "Front", title: "Is no other system as good in accuracy, time and money, and better in one of them?", descending: false, value: (s) => (s.control ? null : over(s).length), cell: (s) => {
      if (s.control) return el("span", { class: "quiet" }, "–");
      if (!over(s).length) return tip(el("span", { tabindex: 0 }, "◆", el("span", { class: "unseen" }, " on the front")), `${s.label}: no other system is as good in accuracy, time a query and money, and better in one of them`);
      return tip(el("span", { class: "quiet", tabindex: 0 }, `below ${over(s).length}`), `${s.label} is dominated by ${over(s).map((o) => o.label).join(", ")}: as good in accuracy, time a query and money, and better in one of them`);
    } });
  }
  const sampleNote = HAS_ALL ? "The systems that call an LLM ran on these alone; all others are repeated here on the same cases, so that each comparison is paired." : "Every system ran on this sample.";
  const caption = [partName(part), el("small", {}, part === "all" ? `Protocol: ${DATA.protocol}. ${HAS_SAMPLE ? "Systems too slow for all cases stand in the table below." : ""}` : sampleNote)];
  return region(partName(part), sortable(caption, columns, rows, { sort: "main", rowClass: (s) => (s.control ? "control" : "") }));
}

// Where the uncertainty of a mean over cases and seeds comes from.
function standardErrors(s) {
  const e = s.standard_errors;
  return known(e.together) ? `\nstandard error ${fixed(e.together)}: cases ${fixed(e.cases)}, seeds ${fixed(e.seeds)}, rest ${fixed(e.rest)}` : "";
}

const tokens = (s) => (known(s.cost.tokens_in) || known(s.cost.tokens_out) ? (s.cost.tokens_in || 0) + (s.cost.tokens_out || 0) : null);
const money = (s) => (s.llm || s.cost.calls ? s.cost.usd : 0);
const queries = (s) => (s.cases || 0) * Math.max(1, s.seeds.length);

function drawBoards() {
  $("boards").replaceChildren(...PARTS.map(leaderboardOf).filter(Boolean), legend(SYSTEMS));
}

function notes() {
  const noted = SYSTEMS.filter((s) => s.note);
  return noted.length ? el("dl", { class: "notes" }, noted.map((s) => el("div", {}, el("dt", {}, untrusted(s.label)), el("dd", {}, untrusted(s.note))))) : "";
}

function everyMetric() {
  return PARTS.map((part) => {
    const rows = inPart(part);
    const metrics = DATA.metrics.filter((m) => inPart(part, m).length);
    const columns = [{ ...systemColumn, cell: (s) => who(s, false) }, ...metrics.map((m) => ({ name: metricName(m), value: (s) => mean(s, part, m), cell: (s) => {
      const f = s.metrics[part][m];
      return f ? el("span", { title: `${span(f)}, n = ${count(f.n)}` }, fixed(f.mean)) : "–";
    } }))];
    return region(`Every metric, ${partName(part)}`, sortable(partName(part), columns, rows, { rowClass: (s) => (s.control ? "control" : "") }));
  });
}

function drawLeaderboard() {
  if (!PARTS.length) {
    $("boards").append(el("p", { class: "callout" }, "The summary of this run holds no accuracy figures."));
    return;
  }
  fill($("board-tools"), [
    chooser("Metric", DATA.metrics.map((m) => [m, metricName(m)]), board.metric, (m) => { board.metric = m; drawBoards(); }),
    chooser("Compare with", [["", HAS_ALL && HAS_SAMPLE ? "the best; in the sample the best LLM" : "the best"], ...SYSTEMS.map((s) => [s.name, s.label])], "", (name) => { board.reference = name; drawBoards(); }),
  ]);
  drawBoards();
  $("boards").after(notes());
  const more = $("every-metric");
  more.addEventListener("toggle", () => { if (more.open && !more.lastElementChild.childElementCount) more.lastElementChild.append(...everyMetric()); });
}

// -- beyond accuracy and failures ---------------------------------------------------------------
function drawBeyond() {
  const names = [...new Set(SYSTEMS.flatMap((s) => Object.keys(s.beyond)))];
  const rows = SYSTEMS.filter((s) => Object.keys(s.beyond).length);
  if (!rows.length) {
    $("beyond-rows").append(el("p", { class: "note" }, "Not recorded in this run."));
    return;
  }
  const most = Object.fromEntries(names.map((m) => [m, Math.max(...rows.map((s) => Math.abs(s.beyond[m] || 0))) || 1]));
  const show = (x) => (known(x) ? (Math.abs(x) >= 100 ? count(Math.round(x)) : Math.abs(x) >= 10 ? x.toFixed(2) : x.toFixed(3)) : "–");
  const columns = [systemColumn, ...names.map((m) => ({ name: metricName(m), value: (s) => s.beyond[m], share: (s) => Math.abs(s.beyond[m] || 0) / most[m], cell: (s) => show(s.beyond[m]) }))];
  for (const part of PARTS) {
    const mine = rows.filter((s) => s.sampled === (part === "sample"));
    const caption = [partName(part), el("small", {}, part === "sample" && HAS_ALL ? "Coverage and Gini depend on the number of lists: compare these systems with each other, not with those above." : "")];
    if (mine.length) $("beyond-rows").append(region(`Beyond accuracy, ${partName(part)}`, sortable(caption, columns, mine, { rowClass: (s) => (s.control ? "control" : "") })));
  }
}

function drawFailures() {
  const rows = SYSTEMS.filter((s) => s.llm || Object.keys(s.failures).length);
  const kinds = [...new Set(rows.flatMap((s) => Object.keys(s.failures)))].sort();
  const into = $("failure-rows");
  if (!rows.length) into.append(el("p", { class: "note" }, "No system of this run calls a language model."));
  else if (!kinds.length) into.append(el("p", { class: "note" }, `No failure in ${count(rows.reduce((n, s) => n + (s.cost.calls || 0), 0))} calls.`));
  else {
    const total = (s) => Object.values(s.failures).reduce((a, b) => a + b, 0);
    const columns = [
      { ...systemColumn },
      { name: "LLM calls", value: (s) => s.cost.calls, cell: (s) => count(s.cost.calls) },
      ...kinds.map((k) => ({ name: k.replaceAll("_", " "), value: (s) => s.failures[k] || 0, cell: (s) => (s.failures[k] ? count(s.failures[k]) : el("span", { class: "quiet" }, "0")) })),
      { name: "All", value: total, cell: (s) => el("b", {}, count(total(s))) },
      { name: "Per call", value: (s) => (s.cost.calls ? total(s) / s.cost.calls : null), cell: (s) => (s.cost.calls ? `${(100 * total(s) / s.cost.calls).toFixed(1)} %` : "–") },
    ];
    into.append(region("Failures by kind", sortable("Failures counted in this run", columns, rows)));
  }
}
