// Accuracy against cost, paired differences, cascades, slices.

// -- scatter with a Pareto front and labels that keep apart ------------------------------------
const overlap = (a, b) => Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y));

function place(points, all, frame, width) {
  const taken = all.map((p) => ({ x: p.px - 7, y: p.py - 7, w: 14, h: 14 }));
  const stems = all.flatMap((p) => (known(p.top) ? [{ x: p.px - 2, y: p.top, w: 4, h: p.bottom - p.top }] : []));
  for (const p of [...points].sort((a, b) => a.py - b.py)) {
    const [w, h] = [width(p.label), 15];
    let chosen = null;
    for (const reach of [10, 18, 30, 44, 60, 80]) {
      for (const angle of [0, 180, -40, 40, -140, 140, -90, 90, -65, 65, -115, 115]) {
        const [dx, dy] = [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
        const cx = p.px + dx * (reach + (Math.abs(dx) > 0.3 ? w / 2 : 0)) ;
        const cy = p.py + dy * (reach + (Math.abs(dy) > 0.3 ? 4 : 0));
        const box = { x: cx - w / 2, y: cy - h / 2, w, h, p };
        const out = box.x < frame.x || box.y < frame.y || box.x + w > frame.x + frame.w || box.y + h > frame.y + frame.h;
        const cost = (out ? 1e6 : 0) + 30 * taken.reduce((sum, t) => sum + overlap(box, t), 0) + 2 * stems.reduce((sum, t) => sum + overlap(box, t), 0) + reach * 3 + (angle ? Math.abs(angle) / 60 : 0);
        if (!chosen || cost < chosen.cost) chosen = { ...box, cost, reach };
      }
    }
    taken.push(chosen);
    p.box = chosen;
  }
}

function scatter({ title, small, points, xName, xFormat, yName, note }) {
  const frees = points.filter((p) => !p.x).length;
  if (frees > 4) note = `The ${frees} systems in the strip on the left have no such cost; hover or focus a mark to see which it is. ${note || ""}`;
  const plot = svg("svg", { class: "plot", role: "group" });
  const figure = el("figure", { class: "chart" }, el("figcaption", {}, title, el("small", {}, small)), plot, note ? el("p", { class: "note" }, note) : null);
  const pen = document.createElement("canvas").getContext("2d");
  function draw() {
    const width = Math.max(280, figure.clientWidth);
    const height = width < 480 ? 380 : 400;
    const free = points.some((p) => !p.x);
    const paying = points.filter((p) => p.x > 0);
    const [left, right, top, bottom] = [40, width - 12, 12, height - 44];
    const yScale = scaleFor(points.map((p) => p.figure), { zero: true, wanted: 5 });
    const start = free ? left + 64 : left + 14;
    const logs = paying.map((p) => Math.log10(p.x));
    let [x0, x1] = logs.length ? [Math.min(...logs), Math.max(...logs)] : [0, 1];
    const air = Math.max(0.25, (1.2 - (x1 - x0)) / 2, (x1 - x0) * 0.12);
    [x0, x1] = [x0 - air, x1 + air];
    const px = (x) => (x > 0 ? start + ((Math.log10(x) - x0) / (x1 - x0)) * (right - start) : left + 28);
    const py = (y) => bottom - ((y - yScale.low) / (yScale.high - yScale.low)) * (bottom - top);
    attributes(plot, { viewBox: `0 0 ${width} ${height}`, height, "aria-label": `${title}: ${points.length} systems. The same figures stand in the leaderboard.` });
    plot.replaceChildren();
    if (free) plot.append(svg("rect", { class: "free", x: left, y: top, width: 56, height: bottom - top, rx: 4 }), svg("text", { x: left + 28, y: bottom + 18, "text-anchor": "middle" }, "none"));
    for (const t of yScale.ticks) plot.append(svg("line", { class: "gridline", x1: left, x2: right, y1: py(t), y2: py(t) }), svg("text", { x: left - 7, y: py(t) + 4, "text-anchor": "end" }, tickLabel(t)));
    const decades = [];
    for (let d = Math.ceil(x0); d <= x1; d += 1) decades.push(d);
    const marks = decades.length > 2 ? decades.map((d) => 10 ** d) : [Math.floor(x0), ...decades].flatMap((d) => [1, 2, 5].map((m) => m * 10 ** d)).filter((m) => Math.log10(m) > x0 && Math.log10(m) < x1);
    const apart = (right - start) / Math.max(1, marks.length);
    marks.forEach((m, i) => {
      plot.append(svg("line", { class: "gridline", x1: px(m), x2: px(m), y1: top, y2: bottom }));
      if (i % Math.ceil(52 / apart) === 0) plot.append(svg("text", { x: px(m), y: bottom + 18, "text-anchor": "middle" }, xFormat(m)));
    });
    plot.append(svg("line", { class: "axisline", x1: left, x2: right, y1: bottom, y2: bottom }));
    plot.append(svg("text", { x: right, y: height - 6, "text-anchor": "end" }, `${xName} →`), svg("text", { x: left, y: height - 6 }, `↑ ${yName}`));
    const front = [];
    for (const p of points.filter((q) => !q.s.control).sort((a, b) => a.x - b.x || b.figure.mean - a.figure.mean)) if (!front.length || p.figure.mean > front.at(-1).figure.mean) front.push(p);
    if (front.length > 1) plot.append(svg("path", { class: "front", d: front.map((p, i) => (i ? `H${px(p.x)}V${py(p.figure.mean)}` : `M${px(p.x)} ${py(p.figure.mean)}`)).join("") }));
    const freed = points.filter((p) => !p.x).sort((a, b) => b.figure.mean - a.figure.mean);
    const crowded = freed.length > 4 ? new Set(freed.filter((p) => !front.includes(p))) : new Set();
    for (const p of points) {
      Object.assign(p, { px: px(p.x), py: py(p.figure.mean), label: p.s.label.length > 30 ? `${p.s.label.slice(0, 29)}…` : p.s.label });
      if (!p.x && freed.length > 1) p.px += [0, -14, 14][freed.indexOf(p) % 3];
      if (known(p.figure.low)) Object.assign(p, { top: py(p.figure.high), bottom: py(p.figure.low) });
    }
    pen.font = `500 12px ${getComputedStyle(document.body).fontFamily}`;
    const labelled = points.filter((p) => !crowded.has(p));
    place(labelled, points, { x: left, y: 0, w: right - left + 10, h: bottom }, (text) => pen.measureText(text).width + 6);
    for (const p of points) if (known(p.top)) plot.append(svg("line", { x1: p.px, x2: p.px, y1: p.top, y2: p.bottom, style: { stroke: color(p.s), "stroke-width": 1.5, opacity: 0.35 } }));
    for (const p of labelled) {
      if (p.box.reach > 18) {
        const [bx, by] = [Math.min(Math.max(p.px, p.box.x), p.box.x + p.box.w), Math.min(Math.max(p.py, p.box.y), p.box.y + p.box.h)];
        plot.append(svg("line", { class: "leader", x1: p.px, y1: p.py, x2: bx, y2: by }));
      }
    }
    for (const p of points) {
      const words = `${p.s.label}${p.s.control ? " (control)" : ""}\n${yName} ${fixed(p.figure.mean)}, interval ${span(p.figure)}\n${xName}: ${p.x ? p.shown : "none"}`;
      const node = svg("g", { class: "point", tabindex: 0, role: "img", "aria-label": words, transform: `translate(${p.px} ${p.py})` }, shape(p.s));
      plot.append(tip(node, words));
    }
    for (const p of labelled) plot.append(svg("text", { class: `label${p.s.control ? " aside" : ""}`, x: p.box.x + p.box.w / 2, y: p.box.y + 11.5, "text-anchor": "middle", "aria-hidden": "true" }, p.label));
  }
  let width = 0;
  new ResizeObserver(() => { if (figure.clientWidth !== width) { width = figure.clientWidth; draw(); } }).observe(figure);
  return figure;
}

function drawCost() {
  const part = { now: PARTS.at(-1) };
  const draw = () => {
    const systems = part.now ? inPart(part.now) : [];
    const shared = { yName: metricName(DATA.primary), small: partName(part.now) };
    const figureOf = (s) => s.metrics[part.now][DATA.primary];
    const timed = systems.filter((s) => known(s.ms_per_query));
    const charts = [];
    if (timed.length) charts.push(scatter({ ...shared, title: "Accuracy against latency", xName: "time per query", xFormat: (ms) => seconds(ms / 1000),
      points: timed.map((s) => ({ s, figure: figureOf(s), x: s.ms_per_query, shown: seconds(s.ms_per_query / 1000) })),
      note: timed.length < systems.length ? `Time not recorded for ${systems.filter((s) => !timed.includes(s)).map((s) => s.label).join(", ")}.` : null }));
    else charts.push(el("p", { class: "note" }, "No time per query was recorded."));
    const paid = systems.filter((s) => s.llm || s.cost.calls);
    const priced = paid.filter((s) => known(s.cost.usd) && queries(s));
    const unpriced = paid.filter((s) => !priced.includes(s)).map((s) => s.label).join(", ");
    if (!paid.length) charts.push(el("p", { class: "note" }, HAS_SAMPLE ? "No system of this table calls a language model, so none costs money by the call. Choose the sample to see those that do." : "No system of this run calls a language model, so none costs money by the call."));
    else if (priced.some((s) => s.cost.usd > 0)) charts.push(scatter({ ...shared, title: "Accuracy against money", xName: "US$ per 1,000 queries", xFormat: (x) => `$${short(x)}`,
      points: systems.filter((s) => !paid.includes(s) || priced.includes(s)).map((s) => { const x = priced.includes(s) ? (1000 * s.cost.usd) / queries(s) : 0; return { s, figure: figureOf(s), x, shown: dollars(x) }; }),
      note: unpriced ? `Money unknown, so left out: ${unpriced}.` : null }));
    else charts.push(scatter({ ...shared, title: "Accuracy against tokens", xName: "LLM tokens per query", xFormat: large,
      points: systems.filter((s) => !paid.includes(s) || tokens(s)).map((s) => { const x = paid.includes(s) ? tokens(s) / (queries(s) || 1) : 0; return { s, figure: figureOf(s), x, shown: large(x) }; }),
      note: `${priced.length ? "No call of this run cost money." : "Money is unknown: no price is set for the language models of this run."} Tokens stand in for it. ${paid.filter((s) => !tokens(s)).map((s) => s.label).join(", ") ? `No tokens recorded for ${paid.filter((s) => !tokens(s)).map((s) => s.label).join(", ")}.` : ""}` }));
    $("cost-charts").replaceChildren(...charts);
  };
  if (PARTS.length > 1) $("cost-tools").append(choice("Cases", [...PARTS].reverse().map((p) => [p, partName(p)]), part.now, (p) => { part.now = p; draw(); }));
  draw();
  $("cost").append(legend(SYSTEMS));
}

// -- paired differences --------------------------------------------------------------------------
function drawDifferences() {
  const able = SYSTEMS.filter((s) => SYSTEMS.some((o) => o !== s && paired(s, o)));
  if (!able.length) {
    $("difference-rows").append(el("p", { class: "note" }, "No paired tests were recorded in this run."));
    return;
  }
  const first = best(able.filter((s) => !s.control && !s.text && mean(s, PARTS[0], DATA.primary)), PARTS[0], DATA.primary) || able[0];
  const draw = (name) => {
    const reference = BY_NAME.get(name);
    const rows = SYSTEMS.filter((s) => s !== reference && paired(s, reference));
    const of = (s) => { const d = paired(s, reference); return { ...d, mean: d.difference }; };
    const scale = scaleFor(rows.map(of), { zero: true, wanted: 6 });
    const columns = [
      systemColumn,
      { key: "main", name: `${metricName(of(rows[0]).metric || DATA.primary)} less that of ${reference.label}`, left: true, width: "34%", value: (s) => of(s).mean, head: axis(scale), cell: (s) => track(scale, of(s), s, { hollow: !clear(of(s)) }) },
      { name: "Difference", value: (s) => of(s).mean, cell: (s) => el("b", { class: clear(of(s)) ? (of(s).mean > 0 ? "up" : "down") : "same" }, signed(of(s).mean)) },
      { name: "Interval", cell: (s) => span(of(s), signed) },
      { name: "p (Holm)", value: (s) => of(s).p_holm, descending: false, cell: (s) => pvalue(of(s).p_holm) },
      { name: "Cases", value: (s) => of(s).n, cell: (s) => count(of(s).n) },
      { name: "Detectable", title: "Smallest true difference that so many cases show with power .8 at a level of .05, before Holm’s correction", value: (s) => of(s).detectable, cell: (s) => {
        const d = of(s);
        const words = `A true difference under ${fixed(d.detectable)} is missed more often than once in five by ${count(d.n)} cases${known(d.needed) ? `; ${count(d.needed)} cases would show ${DATA.fine}` : ""}`;
        return known(d.detectable) ? tip(el("span", { tabindex: 0 }, fixed(d.detectable)), words) : "–";
      } },
    ];
    const near = rows.filter((s) => !s.control && known(of(s).detectable)).reduce((a, b) => (!a || Math.abs(of(b).mean) < Math.abs(of(a).mean) ? b : a), null);
    const resolution = near ? el("p", { class: "note" }, `What so many cases can show: between ${near.label} and ${reference.label}, the nearest of all, a true difference under ${fixed(of(near).detectable)} cannot be told from none with ${count(of(near).n)} cases (power .8, level .05).${known(of(near).needed) ? ` ${count(of(near).needed)} cases would show ${DATA.fine}.` : ""}`) : "";
    $("difference-rows").replaceChildren(region("Paired differences", sortable(`Against ${reference.label}`, columns, rows, { sort: "main", rowClass: (s) => (s.control ? "control" : "") })), resolution);
  };
  $("difference-tools").append(chooser("Reference", able.map((s) => [s.name, s.label]), first.name, draw));
  draw(first.name);
  const more = $("matrix");
  more.addEventListener("toggle", () => { if (more.open && !more.lastElementChild.childElementCount) more.lastElementChild.append(matrix(able)); });
}

function matrix(systems) {
  const most = Math.max(...systems.flatMap((a) => systems.map((b) => Math.abs((paired(a, b) || { difference: 0 }).difference)))) || 1;
  const largest = Math.max(...systems.flatMap((a) => Object.values(a.versus).map((d) => d.n || 0)));
  const cell = (a, b) => {
    if (a === b) return el("td", { class: "self" }, el("span", { class: "unseen" }, "itself"));
    const d = paired(a, b);
    if (!d) return el("td", { class: "faint" }, "–");
    const strength = Math.round(8 + 52 * Math.sqrt(Math.abs(d.difference) / most));
    const paint = clear(d) ? `color-mix(in srgb, var(${d.difference > 0 ? "--c-blue" : "--c-orange"}) ${strength}%, var(--bg))` : "transparent";
    const text = `${signed(d.difference, 3)}${d.n < largest ? "†" : ""}`;
    return el("td", { class: clear(d) ? null : "faint", style: { background: paint }, title: `${a.label} − ${b.label}: ${signed(d.difference)}, ${span(d, signed)}, p ${pvalue(d.p_holm)}, ${count(d.n)} cases` }, text);
  };
  const head = el("tr", {}, el("th", { scope: "col", class: "l" }, "row − column"), systems.map((s) => el("th", { scope: "col" }, s.label)));
  const rows = systems.map((a) => el("tr", {}, el("th", { scope: "row" }, el("div", { class: "who" }, badge(a), a.label)), systems.map((b) => cell(a, b))));
  return [region("All pairs", el("table", { class: "matrix" }, el("caption", {}, el("div", {}, `${metricName(DATA.primary)}, row less column`, el("small", {}, "Blue: the row is better. Orange: it is worse. No colour: not told apart from chance."))), el("thead", {}, head), el("tbody", {}, rows))),
    systems.some((s) => s.sampled) ? el("p", { class: "note" }, `† on the sample. The others are on ${count(largest)} cases.`) : null].filter(Boolean).reduce((box, node) => fill(box, [node]), el("div"));
}

// -- cascades --------------------------------------------------------------------------------------
// What a perfect ranker would reach on the items that it is given, with one true item a case; what
// stands below them keeps its place and its share of the metric.
function ceiling(stages, at) {
  const given = stages[at - 1];
  const recalls = Object.keys(given.metrics).filter((m) => m.startsWith("recall@")).sort((a, b) => b.split("@")[1] - a.split("@")[1]);
  const fits = recalls.find((m) => Number(m.split("@")[1]) <= (stages[at].given || stages[at].depth || given.depth || Infinity));
  if (!fits) return null;
  const [name, k] = DATA.primary.split("@");
  const below = Number(fits.split("@")[1]) < Number(k) ? given.metrics[DATA.primary] - given.metrics[`${name}@${fits.split("@")[1]}`] : 0;
  return { metric: fits, recall: given.metrics[fits], value: given.metrics[fits] + (below > 0 ? below : 0) };
}

function cascade(s) {
  const last = s.stages.length - 1;
  const ranked = s.stages.findIndex((stage, i) => i && stage.kind === "rank");
  const metric = DATA.primary;
  const at = ranked;
  const top = at > 0 ? ceiling(s.stages, at) : null;
  const [came, made] = [at > 0 ? s.stages[at - 1].metrics[metric] : null, s.stages[last].metrics[metric]];
  const words = [];
  const strong = (text) => el("strong", {}, text);
  if (at < 0) words.push("No ranker: the lists are fused, and stand as they are.");
  const shares = s.stages.filter((stage) => stage.kind === "retrieve" && known(stage.weight));
  if (shares.length) words.push(` In the fusion they count as ${shares.map((stage) => `${stage.stage.replace("retrieve:", "")} ${short(stage.weight)}`).join(", ")}. `);
  if (top) words.push("The candidates that the ranker is given hold ", strong(`${(100 * top.recall).toFixed(1)} %`), ` of the truth (${metricName(top.metric)}). `);
  if (known(came) && known(made)) {
    words.push(`Before ranking ${metricName(metric)} is ${fixed(came)}, after it `, strong(fixed(made)), ` (${signed(made - came)}). `);
    const room = top ? top.value - came : 0;
    if (room > 0) words.push(made >= came ? `That is ${(100 * (made - came) / room).toFixed(1)} % of what a perfect ranker would add.` : "The ranker takes away from what it was given.");
  }
  const weighed = s.stages.filter((stage) => stage.kind === "rank" && known(stage.weight));
  for (const stage of weighed) words.push(stage.weight === 0 ? ` The weight of ${stage.stage} came out as 0 on the validation cases: its order is not used.` : stage.weight < 1 ? ` ${stage.stage} counts with a weight of ${short(stage.weight)} against the order that came in.` : "");
  if (!words.length) words.push("The stages of this cascade were not measured.");
  const box = el("section", { class: "cascade", "aria-label": s.label }, el("h3", {}, el("span", { class: "t" }, s.label)), el("p", {}, words));
  if (top && known(came) && known(made)) {
    const whole = Math.max(top.value, came, made) * 1.06;
    const label = (text, v, cls) => el("span", { class: cls, style: { left: percent(v / whole) } }, text);
    fill(box, [
      el("div", { class: "bullet", "aria-hidden": "true", style: { color: color(s) } }, el("i", { class: "ceiling", style: { width: percent(top.value / whole) } }), el("i", { class: "made", style: { width: percent(made / whole) } }), el("i", { class: "came", style: { left: percent(came / whole) } })),
      el("div", { class: "bullet-axis", "aria-hidden": "true" }, label("0", 0, "start"), label(`${came <= made ? "before" : "after"} ${fixed(Math.min(came, made), 3)}`, Math.min(came, made), "edge"), label(`${came <= made ? "after" : "before"} ${fixed(Math.max(came, made), 3)}`, Math.max(came, made), "start"), label(`ceiling ${fixed(top.value, 3)}`, top.value, "edge wide")),
    ]);
  }
  const metrics = [...new Set(s.stages.flatMap((stage) => Object.keys(stage.metrics)))].filter((m) => m === metric || m.startsWith("recall@")).sort((a, b) => DATA.metrics.indexOf(a) - DATA.metrics.indexOf(b));
  const rows = s.stages.map((stage) => el("tr", {}, el("th", { scope: "row" }, stage.stage), el("td", { class: "l" }, stage.kind), el("td", {}, count(stage.kind === "rank" && stage.given ? stage.given : stage.depth)), metrics.map((m) => el("td", {}, fixed(stage.metrics[m])))));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["Stage", "Kind", "Depth", ...metrics.map(metricName)].map((h, i) => el("th", { scope: "col", class: i < 2 ? "l" : null }, h)))), el("tbody", {}, rows));
  return fill(box, [el("details", { open: true }, el("summary", {}, "Each stage"), region(`Stages of ${s.label}`, table))]);
}

function drawCascades() {
  const cascades = SYSTEMS.filter((s) => s.stages.length > 1);
  if (!cascades.length) {
    $("cascades").hidden = true;
    document.querySelector('[data-for="cascades"]').hidden = true;
    return;
  }
  $("cascade-rows").append(...cascades.map(cascade));
}

// -- slices ------------------------------------------------------------------------------------------
function drawSlices() {
  const names = [...new Set(SYSTEMS.flatMap((s) => Object.keys(s.slices)))];
  const into = $("slice-rows");
  if (!names.length) {
    into.append(el("p", { class: "note" }, "No slices were recorded in this run."));
    return;
  }
  const metrics = DATA.metrics.filter((m) => SYSTEMS.some((s) => names.some((n) => s.slices[n] && s.slices[n].metrics[m])));
  const chosen = { metric: metrics[0], reference: "" };
  const compared = SYSTEMS.filter((s) => names.some((n) => s.slices[n] && Object.keys(s.slices[n].versus).length));
  const draw = () => {
    const { metric } = chosen;
    const figureOf = (s, n) => s.slices[n] && s.slices[n].metrics[metric];
    const rows = SYSTEMS.filter((s) => names.some((n) => figureOf(s, n)));
    const scale = scaleFor(rows.flatMap((s) => names.map((n) => figureOf(s, n))).filter(Boolean), { wanted: 3 });
    const table = (part) => {
      const mine = rows.filter((s) => s.sampled === (part === "sample"));
      if (!mine.length) return null;
      const size = (n) => Math.max(...mine.map((s) => (s.slices[n] || {}).n || 0));
      const columns = [systemColumn, ...names.map((n) => ({
        name: `${n.replaceAll("_", " ")} (${count(size(n))})`, left: true, head: axis(scale), value: (s) => (figureOf(s, n) || {}).mean,
        cell: (s) => {
          const f = figureOf(s, n);
          if (!f) return el("span", { class: "quiet" }, "–");
          const cases = s.slices[n].n;
          const reference = BY_NAME.get(chosen.reference);
          const d = reference && metric === DATA.primary ? s.slices[n].versus[reference.name] : null;
          const sign = d && (!clear(d) ? "≈" : d.difference > 0 ? "▲" : "▼");
          const mark = d ? el("small", { class: !clear(d) ? "same" : d.difference > 0 ? "up" : "down" }, `${sign} ${signed(d.difference)}`) : reference === s ? el("small", { class: "quiet" }, "reference") : null;
          const cell = el("div", { tabindex: 0 }, track(scale, f, s, { hollow: s.control }), mark, el("span", { class: "unseen" }, `${fixed(f.mean)}, interval ${span(f)}`));
          const words = d ? `\nless ${reference.label}: ${signed(d.difference)}, interval ${span(d, signed)}\np after Holm within the slice ${pvalue(d.p_holm)}, ${count(d.n)} cases${known(d.detectable) ? `\nsmallest difference so many cases show ${fixed(d.detectable)}` : ""}` : "";
          return tip(cell, `${s.label}, ${n.replaceAll("_", " ")}\n${metricName(metric)} ${fixed(f.mean)}, interval ${span(f)}\n${count(cases)} cases${words}`);
        } }))];
      const made = sortable([`${metricName(metric)}, ${partName(part).toLowerCase()}`, el("small", {}, "Number of cases in brackets")], columns, mine, { rowClass: (s) => (s.control ? "control" : "") });
      made.classList.add("slices");
      return region(`Slices, ${partName(part)}`, made);
    };
    into.replaceChildren(...PARTS.map(table).filter(Boolean));
  };
  if (metrics.length > 1) $("slice-tools").append(chooser("Metric", metrics.map((m) => [m, metricName(m)]), metrics[0], (m) => { chosen.metric = m; draw(); }));
  if (compared.length) {
    chosen.reference = best(compared.filter((s) => !s.control && !s.text && known(mean(s, PARTS[0], DATA.primary))), PARTS[0], DATA.primary)?.name || compared[0].name;
    $("slice-tools").append(chooser("Compare slices with", [["", "nobody"], ...compared.map((s) => [s.name, s.label])], chosen.reference, (name) => { chosen.reference = name; draw(); }));
  }
  draw();
}
