// What models know by heart, and what explanations are worth.

// -- by heart ------------------------------------------------------------------------------------
// The score with the right key (filled) against that with the wrong one (hollow, grey).
function against(scale, test) {
  const at = (v) => percent((v - scale.low) / (scale.high - scale.low));
  const mark = (f, cls, paint) => [
    known(f.low) && known(f.high) ? el("i", { class: "whisker", style: { left: at(f.low), width: percent((f.high - f.low) / (scale.high - scale.low)), color: paint } }) : null,
    known(f.mean) ? el("i", { class: cls, style: { left: at(f.mean), color: paint } }) : null,
  ];
  return el("div", { class: "track", "aria-hidden": "true" }, scale.ticks.map((t) => el("i", { class: "tick", style: { left: at(t) } })),
    mark(test.chance, "dot hollow", "var(--c-grey)"), mark(test.score, "dot", test.found && !test.attribute ? "var(--warn)" : "var(--accent)"));
}

function byHeart(one) {
  const scale = { low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1] };
  const part = (x) => cent(x, 0);
  const found = (t) => (t.found === null ? ["same", "cannot tell"] : !t.found ? ["same", "≈ no sign"] : t.attribute ? ["same", "knows it, perhaps from the world"] : ["down", "▼ knows the file"]);
  const columns = [
    { name: "Test", left: true, width: "26%", value: (t) => t.test, descending: false, cell: (t) => el("div", { class: "what" }, untrusted(t.test.replaceAll("_", " ")), t.asks ? el("small", { class: "t" }, t.asks) : null) },
    { name: "Score, and chance", left: true, width: "24%", head: axis(scale), cell: (t) => {
      const cell = el("div", { tabindex: 0 }, against(scale, t), el("span", { class: "unseen" }, `${figureSpan(t.score, (v) => fixed(v, 3))} against ${figureSpan(t.chance, (v) => fixed(v, 3))}`));
      return tip(cell, `${t.measure || "score"} with the right key ${figureSpan(t.score, (v) => fixed(v, 3))}\nwith the wrong key ${figureSpan(t.chance, (v) => fixed(v, 3))}\n${count(t.score.n)} of ${count(t.cases)} cases, ${t.method || "method not recorded"}`);
    } },
    { name: "Right key", value: (t) => t.score.mean, cell: (t) => fixed(t.score.mean, 3) },
    { name: "Wrong key", value: (t) => t.chance.mean, cell: (t) => fixed(t.chance.mean, 3) },
    { name: "Difference", value: (t) => t.difference.mean, cell: (t) => el("div", { class: "what" }, el("b", { class: found(t)[0] }, signed(t.difference.mean, 3)), el("small", {}, span(t.difference, (v) => signed(v, 3)))) },
    { name: "Stands first", title: "The true line stands first among the choices: with the right key / with the wrong one", cell: (t) => (known(t.accuracy) ? `${part(t.accuracy)} / ${part(t.accuracy_chance)}` : "–") },
    { name: "Written", title: "Written to the letter: with the right key / with the wrong one", cell: (t) => (known(t.written.mean) ? `${part(t.written.mean)} / ${part(t.written_chance.mean)}` : "–") },
    { name: "Finding", left: true, cell: (t) => el("span", { class: found(t)[0] }, found(t)[1]) },
  ];
  const level = known(one.level) ? ` Intervals at ${cent(one.level, 0)}.` : "";
  const caption = ["Right key against wrong key", el("small", {}, `Filled: with the right key. Hollow: with the wrong one, the level of chance. Where two shares stand side by side, the right key comes first.${level}`)];
  const failed = (t) => Object.entries(t.failures).map(([kind, n]) => `${kind.replaceAll("_", " ")} × ${count(n)}`).join(", ");
  const lines = [...one.tests.map((t) => (failed(t) ? `${t.verdict}; failed calls: ${failed(t)}` : t.verdict)), ...Object.entries(one.left_out).map(([test, why]) => `${test}: not asked, ${why}`)].filter(Boolean);
  return el("section", { class: "cascade", "aria-label": `What ${one.model} knows by heart` },
    el("h3", {}, untrusted(one.model), one.llm !== one.model ? el("span", { class: "chip t" }, one.llm) : null),
    el("p", {}, el("strong", { class: "t" }, `${one.verdict[0].toUpperCase()}${one.verdict.slice(1)}.`), one.systems.length ? [" Used by ", untrusted(one.systems.join(", ")), "."] : null),
    one.tests.length ? region(`Tests of ${one.model}`, sortable(caption, columns, one.tests)) : null,
    lines.length ? el("ul", { class: "lines" }, lines.map((line) => el("li", {}, untrusted(line)))) : null);
}

function drawContamination() {
  if ($("by-heart")) $("by-heart-rows").append(...DATA.contamination.map(byHeart));
}

// -- explanations ----------------------------------------------------------------------------------
function drawExplained() {
  if (!$("explained")) return;
  const { columns: figures, same_cases: same } = DATA.explained;
  const rows = SYSTEMS.filter((s) => figures.some((c) => s.explanation[c.key]));
  const show = (c) => (c.key === "fidelity" ? (v) => signed(v, 3) : (v) => fixed(v, 3));
  const better = (c) => (c.better > 0 ? "higher is better" : c.better < 0 ? "lower is better" : "");
  const columns = [
    { ...systemColumn, width: null },
    ...figures.map((c) => ({ name: c.name, title: c.means, descending: c.better > 0, head: el("small", {}, better(c)), value: (s) => (s.explanation[c.key] || {}).mean, cell: (s) => {
      const f = s.explanation[c.key];
      if (!f) return el("span", { class: "quiet" }, "–");
      const cell = el("div", { class: "what", tabindex: 0 }, show(c)(f.mean), known(f.low) && known(f.high) ? el("small", {}, span(f, show(c))) : null);
      return tip(cell, `${s.label}: ${c.name} ${show(c)(f.mean)}\ninterval ${span(f, show(c))}\nn = ${count(f.n)}\n${c.means}`);
    } })),
  ];
  const caption = ["Explainers", el("small", {}, `One row for each system that explains, small print the 95 % interval over cases. ${same ? "" : "Not all of them explained the same cases: differences between rows are not paired."}`)];
  const table = sortable(caption, columns, rows, { rowClass: (s) => (s.control ? "control" : "") });
  table.classList.add("explainers");
  const means = el("dl", { class: "definitions" }, figures.map((c) => el("div", {}, el("dt", {}, c.name), el("dd", {}, `${c.means}. ${better(c)[0].toUpperCase()}${better(c).slice(1)}.`))));
  $("explained-rows").append(region("Explainers", table), el("details", {}, el("summary", {}, "What the figures mean"), means));
}
