// The frame: theme, navigation, the small intervals of the findings, and the order of drawing.
function theme() {
  const button = $("theme");
  const order = ["auto", "light", "dark"];
  const read = () => { try { return localStorage.getItem("llm4rec-theme") || "auto"; } catch { return "auto"; } };
  const set = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = name[0].toUpperCase() + name.slice(1);
    button.setAttribute("aria-label", `Colour theme: ${name === "auto" ? "automatic" : name}`);
    button.dataset.now = name;
    try { localStorage.setItem("llm4rec-theme", name); } catch { /* storage may be switched off */ }
  };
  button.addEventListener("click", () => set(order[(order.indexOf(button.dataset.now) + 1) % order.length]));
  set(order.includes(read()) ? read() : "auto");
}

function minis() {
  const nodes = [...document.querySelectorAll(".mini")];
  const read = (node) => ({ mean: Number(node.dataset.difference), low: node.dataset.low ? Number(node.dataset.low) : null, high: node.dataset.high ? Number(node.dataset.high) : null });
  const most = Math.max(...nodes.flatMap((n) => Object.values(read(n)).filter(known).map(Math.abs)), 1e-9) * 1.08;
  for (const node of nodes) {
    const f = read(node);
    const line = track({ low: -most, high: most, ticks: [0] }, f, { control: false, family: SYSTEMS[0].family });
    attributes(line, { style: { color: !("clear" in node.dataset) ? "var(--quiet)" : f.mean > 0 ? "var(--truth)" : "var(--warn)" } });
    node.append(line, el("small", { style: { left: "50%" } }, "no difference"));
    attributes(node, { role: "img", "aria-label": `difference ${signed(f.mean)}, interval ${span(f, signed)}` });
  }
}

function navigation() {
  const links = [...document.querySelectorAll(".bar nav a")];
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links) {
        if (link.hash === `#${entry.target.id}`) {
          link.setAttribute("aria-current", "true");
          const row = link.parentElement;
          row.scrollLeft = link.offsetLeft - row.offsetLeft - 24;
        } else link.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const link of links) watch.observe($(link.hash.slice(1)));
}

theme();
minis();
drawLeaderboard();
drawCost();
drawDifferences();
drawCascades();
drawRankers();
drawContamination();
drawExplained();
drawSlices();
drawBeyond();
drawFailures();
drawCases();
navigation();
