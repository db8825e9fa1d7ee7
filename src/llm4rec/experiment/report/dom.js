// Elements, numbers and marks.  Every text goes into a text node: nothing here parses HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

function fill(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

function attributes(node, given) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

const el = (tag, given = {}, ...children) => fill(attributes(document.createElement(tag), given), children);
const svg = (tag, given = {}, ...children) => fill(attributes(document.createElementNS(SVG, tag), given), children);
const untrusted = (text, given = {}) => el("span", { class: "t", dir: "auto", ...given }, text);

// -- numbers ---------------------------------------------------------------------------------
const known = (x) => x !== null && x !== undefined;
const fixed = (x, digits = 4) => (known(x) ? x.toFixed(digits) : "–");
const signed = (x, digits = 4) => (known(x) ? (x > 0 ? "+" : x < 0 ? "−" : "±") + Math.abs(x).toFixed(digits) : "–");
const count = (x) => (known(x) ? x.toLocaleString("en-US") : "–");
const span = (f, show = fixed) => (known(f.low) && known(f.high) ? `${show(f.low)} to ${show(f.high)}` : "no interval");
const pvalue = (p) => (!known(p) ? "–" : p < 0.001 ? "< .001" : p.toFixed(3).replace(/^0/, ""));
const short = (x) => (Math.abs(x) >= 1000 || (x && Math.abs(x) < 0.01) ? Number(x.toPrecision(3)).toLocaleString("en-US", { maximumSignificantDigits: 3 }) : String(Number(x.toPrecision(3))));

function seconds(s) {
  if (!known(s)) return "–";
  if (s < 0.001) return `${short(1e6 * s)} µs`;
  if (s < 1) return `${short(1000 * s)} ms`;
  if (s < 120) return `${short(s)} s`;
  return s < 7200 ? `${short(s / 60)} min` : `${short(s / 3600)} h`;
}

function large(x) {
  if (!known(x)) return "–";
  if (x < 1e4) return count(Math.round(x));
  return x < 1e6 ? `${short(x / 1e3)} k` : x < 1e9 ? `${short(x / 1e6)} M` : `${short(x / 1e9)} G`;
}

const dollars = (x) => (!known(x) ? "unknown" : x === 0 ? "0" : x < 0.01 ? "< $0.01" : `$${x.toFixed(2)}`);

function metricName(metric) {
  const [name, k] = metric.split("@");
  return (DATA.names[name] || name) + (k ? `@${k}` : "");
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) || raw;
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return out;
}
const tickLabel = (v) => (v === 0 ? "0" : String(Number(v.toPrecision(4))).replace(/^(-?)0\./, "$1.").replace("-", "−"));

// -- systems ---------------------------------------------------------------------------------
const SYSTEMS = DATA.systems;
const BY_NAME = new Map(SYSTEMS.map((s) => [s.name, s]));
const HAS_ALL = SYSTEMS.some((s) => Object.keys(s.metrics.all).length);
const HAS_SAMPLE = SYSTEMS.some((s) => s.sampled && Object.keys(s.metrics.sample).length);
const PARTS = [HAS_ALL && "all", HAS_SAMPLE && "sample"].filter(Boolean);
const inPart = (part, metric = DATA.primary) => SYSTEMS.filter((s) => s.metrics[part][metric]);
const partSize = (part) => Math.max(0, ...SYSTEMS.map((s) => (s.metrics[part][DATA.primary] || {}).n || 0));
const partName = (part) => (part === "all" ? `All ${count(partSize("all"))} cases` : `Sample of ${count(partSize("sample"))} cases`);
const mean = (s, part, metric) => (s.metrics[part][metric] || {}).mean;
const best = (systems, part, metric) => systems.reduce((a, b) => (!a || mean(b, part, metric) > mean(a, part, metric) ? b : a), null);

// One colour and one shape for each family, so that neither has to be seen to tell them apart.
const FAMILIES = new Map(Object.entries(DATA.families));
const color = (s) => (s.control ? "var(--c-grey)" : `var(--c-${FAMILIES.get(s.family).color})`);

const OUTLINES = {
  circle: "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z",
  square: "M-4.5 -4.5H4.5V4.5H-4.5Z",
  triangle: "M0 -5.6L5.4 4.2H-5.4Z",
  diamond: "M0 -6L6 0L0 6L-6 0Z",
  wedge: "M0 5.6L5.4 -4.2H-5.4Z",
  hexagon: "M5.4 0L2.7 4.8H-2.7L-5.4 0L-2.7 -4.8H2.7Z",
};
function shape(s, hollow = s.control, given = {}) {
  const { shape: outline } = FAMILIES.get(s.family);
  const paint = hollow ? { fill: "var(--bg)", stroke: color(s), "stroke-width": 1.8 } : { fill: color(s), stroke: "var(--bg)", "stroke-width": 1 };
  return svg("path", { d: OUTLINES[outline], style: paint, ...given });
}
const badge = (s, hollow) => svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, shape(s, hollow));

function legend(systems) {
  const seen = new Map(systems.filter((s) => !s.control).map((s) => [s.family, s]));
  const entries = [...seen.values()].map((s) => el("li", {}, badge(s), s.family));
  const control = systems.find((s) => s.control);
  if (control) entries.push(el("li", {}, badge(control), "control"));
  return el("ul", { class: "legend", "aria-label": "Families" }, entries);
}

// The tested difference a - b, as it stands or turned around.
function paired(a, b) {
  const direct = a.versus[b.name];
  if (direct) return direct;
  const turned = b.versus[a.name];
  const minus = (x) => (known(x) ? -x : null);
  return turned ? { ...turned, difference: minus(turned.difference), low: minus(turned.high), high: minus(turned.low) } : null;
}
function clear(d) {
  const p = known(d.p_holm) ? d.p_holm : d.p;
  if (known(p)) return p < DATA.alpha;
  return known(d.low) && known(d.high) && (d.low > 0 || d.high < 0);
}

// -- controls --------------------------------------------------------------------------------
function chooser(label, options, value, change) {
  const select = el("select", { "aria-label": label, onchange: () => change(select.value) }, options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  return el("label", {}, label, select);
}

function choice(label, options, value, change) {
  const buttons = options.map(([key, text]) =>
    el("button", { type: "button", "aria-pressed": String(key === value), onclick: () => {
      buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(options[i][0] === key)));
      change(key);
    } }, text));
  return el("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

const region = (label, ...children) => el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": `${label} (scrolls sideways)` }, ...children);
const percent = (x) => `${(100 * x).toFixed(2)}%`;

// -- the one tooltip -------------------------------------------------------------------------
function tell(node, text) {
  const box = $("tip");
  box.textContent = text;
  box.hidden = false;
  const at = node.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + at.width / 2 - box.offsetWidth / 2), innerWidth - box.offsetWidth - 8);
  const above = at.top - box.offsetHeight - 8;
  attributes(box, { style: { left: `${left + scrollX}px`, top: `${(above > 56 ? above : at.bottom + 8) + scrollY}px` } });
}
const hush = () => { $("tip").hidden = true; };
function tip(node, text) {
  for (const event of ["pointerenter", "focus"]) node.addEventListener(event, () => tell(node, text));
  for (const event of ["pointerleave", "blur"]) node.addEventListener(event, hush);
  return node;
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });
