// Inside the rankers: curves by slot, agreement, popularity, false histories, answers.

// A curve over the slots of a listing with its band of intervals.  The pointer, or the arrow keys,
// step through the slots: {title, small, figures, even, scale, up (do large values stand high?), show, words(i)}.
function curve({ title, small, figures, even, scale, up, show, words }) {
  const n = figures.length;
  const plot = svg("svg", { class: "plot curve", tabindex: 0, role: "slider", "aria-label": `${title}, slot`, "aria-orientation": "horizontal", "aria-valuemin": 1, "aria-valuemax": n, "aria-valuenow": 1, "aria-valuetext": words(0) });
  const figure = el("figure", { class: "chart" }, el("figcaption", {}, title, el("small", {}, small)), plot);
  let [at, cursor, px] = [0, null, null];
  function step(to) {
    at = Math.min(n - 1, Math.max(0, to));
    attributes(plot, { "aria-valuenow": at + 1, "aria-valuetext": words(at) });
    cursor.move(at);
    tell(cursor.node, words(at));
  }
  const leave = () => { hush(); if (cursor) cursor.node.setAttribute("visibility", "hidden"); };
  function draw() {
    const width = Math.max(260, figure.clientWidth);
    const [height, left, right, top, bottom] = [200, 40, width - 10, 12, 160];
    px = (i) => left + 12 + (i / (n - 1)) * (right - left - 24);
    const share = (v) => (v - scale.low) / (scale.high - scale.low);
    const py = (v) => (up ? bottom - share(v) * (bottom - top) : top + share(v) * (bottom - top));
    attributes(plot, { viewBox: `0 0 ${width} ${height}`, height });
    plot.replaceChildren();
    for (const t of scale.ticks) plot.append(svg("line", { class: "gridline", x1: left, x2: right, y1: py(t), y2: py(t) }), svg("text", { x: left - 7, y: py(t) + 4, "text-anchor": "end" }, show(t)));
    const every = Math.ceil((n * 24) / (right - left));
    for (let i = 0; i < n; i += every) plot.append(svg("text", { x: px(i), y: bottom + 18, "text-anchor": "middle" }, i + 1));
    plot.append(svg("text", { x: right, y: height - 4, "text-anchor": "end" }, "slot in the listing →"));
    const line = (pairs) => pairs.map(([i, v], k) => `${k ? "L" : "M"}${px(i)} ${py(v)}`).join("");
    const ends = figures.map((f, i) => [i, f]).filter(([, f]) => known(f.low) && known(f.high));
    if (ends.length > 1) plot.append(svg("path", { class: "band", d: `${line(ends.map(([i, f]) => [i, f.high]))}${line(ends.map(([i, f]) => [i, f.low]).reverse()).replace("M", "L")}Z` }));
    plot.append(svg("line", { class: "even", x1: left, x2: right, y1: py(even), y2: py(even) }));
    const means = figures.map((f, i) => [i, f.mean]).filter(([, v]) => known(v));
    plot.append(svg("path", { class: "line", d: line(means) }), ...means.map(([i, v]) => svg("circle", { class: "spot", cx: px(i), cy: py(v), r: 2.6 })));
    plot.append(svg("text", { class: "label aside", x: right, y: py(even) - 5, "text-anchor": "end", "aria-hidden": "true" }, "even"));
    const node = svg("g", { class: "cursor", visibility: "hidden" }, svg("line", { x1: 0, x2: 0, y1: top, y2: bottom }), svg("circle", { cx: 0, r: 5 }));
    cursor = { node, move: (i) => {
      const v = figures[i].mean;
      attributes(node, { transform: `translate(${px(i)} 0)`, visibility: "visible" });
      attributes(node.lastChild, { cy: known(v) ? py(v) : bottom });
    } };
    plot.append(node);
  }
  plot.addEventListener("pointermove", (event) => {
    const x = event.clientX - plot.getBoundingClientRect().left;
    step(Math.round(((x - px(0)) / (px(n - 1) - px(0))) * (n - 1)));
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) step(at); });
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: n - 1 }[event.key];
    if (!known(to)) return;
    event.preventDefault();
    step(to);
  });
  let width = 0;
  new ResizeObserver(() => { if (figure.clientWidth !== width) { width = figure.clientWidth; draw(); } }).observe(figure);
  return figure;
}

const cent = (x, digits = 1) => (known(x) ? `${(100 * x).toFixed(digits)} %` : "–");
const figureSpan = (f, show) => (f && known(f.mean) ? `${show(f.mean)} (${span(f, show)})` : "–");

function positions(s, stage) {
  const p = stage.position;
  const n = p.first.length;
  const truth = (i) => (p.hit && known(p.hit[i].mean) ? `\ntrue item there placed first: ${figureSpan(p.hit[i], cent)}` : "");
  const charts = [curve({
    title: "First places by slot", small: "Share of the listings in which a slot’s candidate is placed first. Level: no bias.",
    figures: p.first, even: 1 / n, scale: scaleFor([...p.first, { mean: 1 / n }], { wanted: 4 }), up: true, show: (v) => cent(v, 0),
    words: (i) => `Slot ${i + 1} of ${n}\nplaced first: ${figureSpan(p.first[i], cent)}\neven: ${cent(1 / n)}${truth(i)}`,
  })];
  if (p.rank) charts.push(curve({
    title: "Mean place by slot", small: "Where a slot’s candidate ends: 0 is first, 1 is last. Level at .5: no bias.",
    figures: p.rank, even: 0.5, scale: { low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1] }, up: false, show: tickLabel,
    words: (i) => `Slot ${i + 1} of ${n}\nmean place: ${figureSpan(p.rank[i], (v) => fixed(v, 3))}\neven: .5${truth(i)}`,
  }));
  const rows = p.first.map((first, i) => ({ slot: i + 1, first, rank: p.rank && p.rank[i], hit: p.hit && p.hit[i] }));
  const column = (name, key, show) => ({ name, value: (r) => (r[key] || {}).mean, cell: (r) => figureSpan(r[key], show) });
  const columns = [
    { name: "Slot", value: (r) => r.slot, descending: false, cell: (r) => r.slot },
    column("Placed first", "first", cent),
    p.rank && column("Mean place", "rank", (v) => fixed(v, 3)),
    p.hit && column("True item there placed first", "hit", cent),
  ].filter(Boolean);
  const left = p.left_out ? `; ${count(p.left_out)} others were of another length or of no use` : "";
  const table = sortable([`${count(p.trials)} listings of ${n} candidates`, el("small", {}, `Mean and interval over cases${left}.`)], columns, rows);
  return [el("div", { class: "pair" }, charts), el("details", {}, el("summary", {}, "The figures by slot"), region(`Figures by slot of ${s.label}`, table))];
}

// Correlations from -1 to 1: between listings, and with popularity.
function pulls(s, stage) {
  const scale = { low: -1, high: 1, ticks: [-1, -0.5, 0, 0.5, 1] };
  const pop = stage.popularity;
  const rows = [
    stage.agreement && { what: "Agreement of two listings", means: "Kendall’s τ: at 1 the order of listing changes nothing, at 0 answers share no more than chance", figure: stage.agreement },
    pop && { what: "Ranker and popularity", means: "Spearman’s correlation of its scores with training popularity", figure: pop.ranker },
    pop && pop.truth && { what: "Truth and popularity", means: "the same of what users chose", figure: pop.truth, hollow: true },
    pop && pop.excess && { what: "Ranker less truth", means: "over the same cases", figure: { ...pop.excess, mean: pop.excess.difference } },
  ].filter(Boolean);
  if (!rows.length) return [];
  const columns = [
    { name: "Correlation", left: true, width: "30%", cell: (r) => el("div", { class: "what" }, r.what, el("small", {}, r.means)) },
    { name: "", left: true, width: "34%", head: axis(scale), cell: (r) => track(scale, r.figure, s, { hollow: Boolean(r.hollow) }) },
    { name: "Mean", cell: (r) => el("b", {}, signed(r.figure.mean, 3)) },
    { name: "Interval", cell: (r) => span(r.figure, (v) => signed(v, 3)) },
    { name: "Cases", cell: (r) => count(r.figure.n) },
  ];
  return [region(`Agreement and popularity of ${s.label}`, sortable(["Correlations", el("small", {}, "From −1 to 1. Hollow: of the truth.")], columns, rows))];
}

function histories(s, stage) {
  const h = stage.history;
  const controls = [["shuffled", "Shuffled history", "the same items in random order"], ["fake", "Another user’s history", "none of one’s own"]];
  const rows = controls.filter(([key]) => h[key]).map(([key, what, means]) => ({ what, means, gain: { ...h[key].gain, mean: h[key].gain.difference }, tau: h[key].tau }));
  const all = [{ what: "True history", means: "as it is", metric: h.true && h.true.mean }, ...rows.map((r) => ({ ...r, metric: h.true && h.true.mean - r.gain.mean }))];
  const scale = scaleFor([...rows.map((r) => r.gain), { mean: -0.005 }, { mean: 0.005 }], { wanted: 4 });
  const of = (r, show) => (r.gain ? show(r.gain) : el("span", { class: "quiet" }, "–"));
  const columns = [
    { name: "Asked with", left: true, width: "30%", cell: (r) => el("div", { class: "what" }, r.what, el("small", {}, r.means)) },
    { name: "What the true one gains", left: true, width: "28%", head: axis(scale), cell: (r) => of(r, (g) => track(scale, g, s, { hollow: !(g.low > 0 || g.high < 0) })) },
    { name: "Gain", cell: (r) => of(r, (g) => el("b", { class: g.low > 0 ? "up" : g.high < 0 ? "down" : "same" }, signed(g.mean))) },
    { name: "Interval", cell: (r) => of(r, (g) => span(g, signed)) },
    { name: h.metric, cell: (r) => fixed(r.metric) },
    { name: "p", title: "Paired sign-flip test, not corrected for several tests", cell: (r) => of(r, (g) => pvalue(g.p)) },
    { name: "Same order (τ)", title: "Kendall’s correlation of the two orders: 1 where the history changes nothing", cell: (r) => (r.tau ? el("span", { title: span(r.tau, (v) => signed(v, 3)) }, signed(r.tau.mean, 3)) : el("span", { class: "quiet" }, "–")) },
  ];
  const caption = ["True and false histories", el("small", {}, `${known(stage.controls) ? `${count(stage.controls)} cases, asked` : "Asked"} again. A filled mark: the interval stays clear of 0.`)];
  return [region(`History controls of ${s.label}`, sortable(caption, columns, all))];
}

function answered(stage) {
  const kinds = Object.entries(stage.answers.kinds);
  return kinds.length ? el("p", { class: "kinds" }, kinds.map(([kind, n]) => el("span", { class: "chip bad" }, `${kind.replaceAll("_", " ")} × ${count(n)}`))) : null;
}

function ranker(s, stage) {
  const { says } = stage;
  const said = (...keys) => keys.filter((k) => says[k]).map((k) => el("p", {}, says[k]));
  return el("section", { class: "cascade ranker", "aria-label": `${s.label}, ${stage.stage}` },
    el("h3", {}, badge(s), " ", untrusted(s.label), el("span", { class: "chip t" }, stage.stage), stage.scoring ? el("span", { class: "chip t" }, `scoring: ${stage.scoring}`) : null),
    stage.history ? [el("h4", {}, "History"), said("fake", "shuffled"), histories(s, stage)] : null,
    says.position ? [el("h4", {}, "Position"), said("position"), stage.position ? positions(s, stage) : null] : null,
    stage.agreement || stage.popularity ? [el("h4", {}, "Agreement and popularity"), said("popularity"), pulls(s, stage)] : null,
    stage.answers ? [el("h4", {}, "Answers"), said("answers"), answered(stage)] : null);
}

function drawRankers() {
  if ($("rankers")) $("ranker-rows").append(...SYSTEMS.flatMap((s) => s.diagnosis.map((stage) => ranker(s, stage))));
}
