// The pages of the benchmark site. Data is in data.js (window.BENCH), so that everything works from a folder as well as from a server.
"use strict";
(() => {
const D = window.BENCH, main = document.querySelector("main"), COLORS = ["--c0", "--c1", "--c2", "--c3", "--c4"];
const $ = (tag, attributes = {}, ...inside) => {
  const svg = ["svg", "g", "line", "path", "circle", "text", "polyline", "polygon", "title"].includes(tag) && !(tag === "title" && !attributes.svg);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) if (key.startsWith("on")) made.addEventListener(key.slice(2), value); else if (key !== "svg" && value !== null) made.setAttribute(key, value);
  made.append(...inside.filter(x => x !== null && x !== undefined));
  return made;
};
const seconds = s => s == null ? "–" : s >= 1 ? s.toPrecision(3) + " s" : s >= 1e-3 ? (s * 1e3).toPrecision(3) + " ms" : (s * 1e6).toPrecision(3) + " µs";
const ratio = r => r >= 1 ? "+" + ((r - 1) * 100).toFixed(0) + " %" : "−" + ((1 - r) * 100).toFixed(0) + " %";
const tone = r => r > 1 ? "slower" : "faster";
const median = xs => { const s = [...xs].sort((a, b) => a - b); return s.length ? s[s.length >> 1] : null; };
const geomean = xs => xs.length ? Math.exp(xs.reduce((a, x) => a + Math.log(x), 0) / xs.length) : null;
const byHash = Object.fromEntries(D.commits.map(c => [c.hash, c]));
const short = name => name.replace(/\.time_call$/, "").replace(/^ops\./, "");
const commitLink = hash => { const c = byHash[hash]; return $("span", {}, D.url ? $("a", { href: D.url + hash }, hash.slice(0, 8)) : hash.slice(0, 8), c ? " " + c.subject : ""); };
const graphLink = (machine, b, p) => $("a", { href: "graphs.html#" + new URLSearchParams({ machine, b, p: p.join("|") }) }, short(b) + (p.length ? " " + p.join(", ") : ""));
const distinct = xs => [...new Set(xs)];
const select = (label, options, value, change) => $("label", {}, label, (() => {
  const made = $("select", { "aria-label": label, onchange: e => change(e.target.value) });
  for (const option of options) { const [v, text] = Array.isArray(option) ? option : [option, option]; const o = $("option", { value: v }, text); if (String(v) === String(value)) o.selected = true; made.append(o); }
  return made;
})());
const table = (head, rows, empty) => rows.length ? $("div", { class: "scroll" }, $("table", {}, $("thead", {}, $("tr", {}, ...head.map(h => $("th", h.endsWith("#") ? { class: "n" } : {}, h.replace("#", ""))))), $("tbody", {}, ...rows))) : $("p", { class: "soft" }, empty);
const cell = (x, number, tone) => $("td", { class: [number ? "n" : "", tone || ""].join(" ").trim() || null }, x);
const intro = (title, ...words) => main.append($("h1", {}, title), $("p", { class: "soft" }, ...words));
const at = name => D.machines.find(m => m.name === name) || D.machines[0];
const place = new URLSearchParams(location.hash.slice(1));
const remember = state => history.replaceState(null, "", "#" + new URLSearchParams(state));

function changeRows(machine, list) {
  return list.map(c => $("tr", {}, cell(graphLink(machine.name, c.b, c.p)), cell(ratio(c.ratio), true, tone(c.ratio)), cell(seconds(c.before), true), cell(seconds(c.after), true), cell(commitLink(c.commit)), cell(c.again)));
}
const CHANGE_HEAD = ["benchmark", "change#", "before#", "after#", "first seen at", "measured again"];

// portable_nn's time by a peer's, where both have a figure; below 1 we are faster.
const against = (peers, row, name) => { const ours = peers.rows[row].ours, its = peers.rows[row][name]; return ours && its ? ours / its : null; };
const others = peers => Object.keys(peers.peers).filter(name => !name.startsWith("ours"));
function peerSummary(peers) {
  const rows = others(peers).map(name => [name, Object.keys(peers.rows).map(row => against(peers, row, name)).filter(x => x)]).filter(([, list]) => list.length);
  return table(["library", "version", "rows#", "our time by its#", "we are faster in#"], rows.map(([name, list]) => { const g = geomean(list); return $("tr", {}, cell(peers.peers[name].says), cell(peers.peers[name].version), cell(list.length, true), cell(g.toFixed(2) + "×", true, g > 1 + D.threshold ? "slower" : g < 1 - D.threshold ? "faster" : ""), cell(`${list.filter(r => r < 1).length} of ${list.length}`, true)); }), "");
}

const pages = {
  landing() {
    intro("Where each backend stands", `${D.machines.length} machine${D.machines.length === 1 ? "" : "s"}, ${D.commits.length} commits, the newest `, D.commits.length ? commitLink(D.commits[D.commits.length - 1].hash) : "none yet", `. A change counts from ${(D.threshold * 100).toFixed(0)} %.`);
    for (const m of D.machines) {
      main.append($("h2", {}, m.name), $("p", { class: "soft" }, [m.about.cpu, m.about.num_cpu + " cores", m.about.ram, ...(m.about.devices || []).map(d => `${d.platform} ${d.driver}`.trim())].filter(Boolean).join(" · ")));
      const cards = $("div", { class: "cards" });
      for (const backend of distinct(m.rows.filter(r => r.b.startsWith("ops.")).map(r => r.p[0]))) {
        const rows = m.rows.filter(r => r.b.startsWith("ops.") && r.p[0] === backend), roof = m.roofline.filter(r => r.p[0] === backend);
        const moved = rows.map(r => { const v = r.v.filter(x => x != null); return v.length > 1 ? v[v.length - 1] / v[Math.max(0, v.length - 1 - m.recent)] : null; }).filter(x => x);
        const trend = geomean(moved), reached = median(roof.map(r => 1 - r.missed)), against = Object.entries(m.libraries).filter(([, l]) => l.ratios).map(([name, l]) => [name, geomean(Object.entries(l.ratios).filter(([k]) => k.startsWith(backend + "/")).map(([, v]) => v.ratio))]).filter(([, g]) => g);
        cards.append($("div", { class: "card" }, $("h3", {}, backend), $("div", { class: "big" }, reached == null ? "–" : (reached * 100).toFixed(0) + " %"), $("div", { class: "soft" }, "of the roofline, median op"),
          $("dl", {}, $("dt", {}, "ops · cases"), $("dd", {}, distinct(rows.map(r => r.b)).length + " · " + rows.length),
            $("dt", {}, `time, last ${m.recent} commits`), $("dd", { class: trend ? tone(trend) : "" }, trend ? ratio(trend) : "–"),
            ...against.flatMap(([name, g]) => [$("dt", {}, "time by " + name + "'s"), $("dd", {}, g.toFixed(2) + "×")]))));
      }
      main.append(cards);
      if (D.peers && m === D.machines[0]) main.append($("h2", {}, "Beside other libraries"), peerSummary(D.peers), $("p", {}, $("a", { href: "libraries.html" }, "row by row")));
      const recent = m.changes.filter(c => c.newest < m.recent).sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio))), sure = c => c.again.startsWith("confirmed");
      for (const [title, list] of [["Slower", recent.filter(c => c.ratio > 1)], ["Faster", recent.filter(c => c.ratio < 1)]]) {
        const open = list.filter(c => !sure(c) && !c.again.startsWith("not confirmed"));
        main.append($("h2", {}, `${title} in the last ${m.recent} commits`), table(CHANGE_HEAD, changeRows(m, list.filter(sure).slice(0, 8)), "Nothing that a second measurement confirmed."));
        if (open.length) main.append($("details", {}, $("summary", {}, `${open.length} seen once, which may be noise`), table(CHANGE_HEAD, changeRows(m, open.slice(0, 20)), "")));
      }
      main.append($("p", {}, $("a", { href: "changes.html#" + new URLSearchParams({ machine: m.name, commits: 1000, kind: "both" }) }, "all changes")));
    }
    if (!D.machines.length) main.append($("p", {}, "No results yet: run portable-nn bench history."));
  },

  changes() {
    const state = { machine: place.get("machine") || D.machines[0]?.name, commits: place.get("commits") || "10", kind: place.get("kind") || "slower" };
    intro("What got slower, and what faster", `A step is listed where three commits on either side agree and their medians differ by more than ${(D.threshold * 100).toFixed(0)} %. “Measured again” is the verdict of a second, interleaved measurement of the two commits.`);
    const bar = $("div", { class: "bar" }), out = $("div"); main.append(bar, out);
    const draw = () => {
      remember(state); const m = at(state.machine); bar.replaceChildren(); out.replaceChildren(); if (!m) return;
      const go = key => v => { state[key] = v; draw(); };
      bar.append(select("machine", D.machines.map(x => x.name), m.name, go("machine")), select("in the last", [["5", "5 commits"], ["10", "10 commits"], ["20", "20 commits"], ["1000", "all commits"]], state.commits, go("commits")), select("kind", ["slower", "faster", "both"], state.kind, go("kind")));
      const list = m.changes.filter(c => c.newest < +state.commits && (state.kind === "both" || tone(c.ratio) === state.kind));
      out.append($("p", { class: "soft" }, `${list.length} found`), table(CHANGE_HEAD, changeRows(m, list), "Nothing."));
      if (m.skipped.length) out.append($("h2", {}, "Commits that could not be measured"), table(["commit", "reason"], m.skipped.map(s => $("tr", {}, cell(s.commit.slice(0, 8)), cell(s.reason))), ""));
    };
    draw();
  },

  graphs() {
    const state = { machine: place.get("machine") || D.machines[0]?.name, b: place.get("b") || "", p: place.get("p") || "" };
    intro("History of a case", "Commits from left to right, time on the left, the fastest of all bursts; the bar above a point reaches the third quartile.");
    const bar = $("div", { class: "bar" }), figure = $("div"), note = $("div", { class: "note", "aria-live": "polite" }); main.append(bar, figure, note);
    const draw = () => {
      const m = at(state.machine); bar.replaceChildren(); figure.replaceChildren(); if (!m) return;
      const names = distinct(m.rows.map(r => r.b)); if (!names.includes(state.b)) state.b = names.find(n => n.startsWith("ops.")) || names[0];
      const rows = m.rows.filter(r => r.b === state.b), keys = distinct(rows.map(r => r.p.slice(1).join("|")));
      let key = state.p.split("|").slice(1).join("|"); if (!keys.includes(key)) key = keys[0]; state.p = (rows[0]?.p[0] || "") + "|" + key; remember(state);
      const search = $("input", { list: "names", value: state.b, "aria-label": "benchmark", size: 34, onchange: e => { state.b = e.target.value; draw(); }, onfocus: e => e.target.select() });
      bar.append(...[select("machine", D.machines.map(x => x.name), m.name, v => { state.machine = v; draw(); }), $("label", {}, "benchmark", search, $("datalist", { id: "names" }, ...names.map(n => $("option", { value: n })))),
        keys.length > 1 || keys[0] ? select("case", keys.map(k => [k, k.split("|").join(", ") || "–"]), key, v => { state.p = "|" + v; draw(); }) : null].filter(Boolean));
      const shown = rows.filter(r => r.p.slice(1).join("|") === key);
      figure.append(lines(m, shown, note)); note.textContent = "Point at, or tap, a commit.";
    };
    addEventListener("hashchange", () => { const q = new URLSearchParams(location.hash.slice(1)); for (const k in state) state[k] = q.get(k) || state[k]; draw(); });
    draw();
  },

  roofline() {
    const state = { machine: place.get("machine") || D.machines[0]?.name, backend: place.get("backend") || "", direction: place.get("direction") || "forward", op: place.get("op") || "" };
    intro("Roofline", "Each point is an op's case at the newest commit that has it: arithmetic intensity to the right, rate upwards. Lines are what the machine reached: arithmetic in registers, copies by size.");
    const bar = $("div", { class: "bar" }), figure = $("div"), note = $("div", { class: "note", "aria-live": "polite" }), list = $("div"); main.append(bar, figure, note, list);
    const draw = () => {
      const m = at(state.machine); bar.replaceChildren(); figure.replaceChildren(); list.replaceChildren(); if (!m || !m.roofline.length) { note.textContent = "No op of this machine has both a time and a count of its work."; return; }
      const backends = distinct(m.roofline.map(r => r.p[0])), directions = distinct(m.roofline.map(r => r.p[3]));
      const points = b => m.roofline.filter(r => r.p[0] === b).length;
      if (!backends.includes(state.backend)) state.backend = [...backends].sort((a, b) => points(b) - points(a))[0]; remember(state);
      const go = key => v => { state[key] = v; draw(); };
      bar.append(select("machine", D.machines.map(x => x.name), m.name, go("machine")), select("backend", backends, state.backend, go("backend")), select("direction", directions, state.direction, go("direction")),
        $("label", {}, "op", $("input", { value: state.op, placeholder: "part of its name", "aria-label": "op", oninput: e => { state.op = e.target.value; plot(); } })));
      const plot = () => {
        const points = m.roofline.filter(r => r.p[0] === state.backend && r.p[3] === state.direction && r.op.includes(state.op));
        figure.replaceChildren(roof(m, state.backend, points, note));
        list.replaceChildren($("h2", {}, "Furthest from the roofline"), table(["op", "case", "time#", "flop/byte#", "missed#"], [...points].sort((a, b) => b.missed - a.missed).slice(0, 25).map(r => $("tr", {}, cell(graphLink(m.name, `ops.${r.op}.time_call`, r.p)), cell(r.p[2]), cell(seconds(r.s), true), cell((r.flops / r.bytes).toPrecision(2), true), cell((r.missed * 100).toFixed(0) + " %", true))), "Nothing."));
      };
      plot(); note.textContent = "Point at, or tap, an op.";
    };
    draw();
  },

  libraries() {
    const state = { machine: place.get("machine") || D.machines[0]?.name, op: "" };
    intro("Against the libraries", "Our time by the library's, both timed in turn in one run; below 1 ours is faster. A library's function counts only where its result agrees with ours.");
    if (D.peers) {
      const p = D.peers, names = others(p).filter(name => Object.values(p.rows).some(row => row[name])), ours = Object.keys(p.peers).filter(name => name.startsWith("ours") && Object.values(p.rows).some(row => row[name]));
      main.append($("h2", {}, "Row by row"), $("p", { class: "soft" }, `${p.machine.processor}, ${p.machine.cores} cores; ` + [...ours.slice(0, 1), ...names].map(n => `${n}: ${p.peers[n].says} ${p.peers[n].version}`).join(" · ")),
        table(["row", "ours#", ...names.map(n => n + "#")], Object.keys(p.rows).map(row => $("tr", {}, cell(row), cell(seconds(p.rows[row].ours), true), ...names.map(n => { const r = against(p, row, n); return cell(r ? r.toFixed(2) + "×" : "–", true, r ? (r > 1 + D.threshold ? "slower" : r < 1 - D.threshold ? "faster" : "") : ""); }))), ""), $("h2", {}, "Op by op"));
    }
    const bar = $("div", { class: "bar" }), out = $("div"); main.append(bar, out);
    const draw = () => {
      remember({ machine: state.machine }); const m = at(state.machine); bar.replaceChildren(); if (!m) return;
      bar.append(select("machine", D.machines.map(x => x.name), m.name, v => { state.machine = v; draw(); }), $("label", {}, "op", $("input", { placeholder: "part of its name", "aria-label": "op", oninput: e => { state.op = e.target.value; rows(); } })));
      const names = Object.keys(m.libraries), keys = distinct(names.flatMap(n => Object.keys(m.libraries[n].ratios || {}))).sort((a, b) => a.split("/")[1] < b.split("/")[1] ? -1 : 1);
      const rows = () => out.replaceChildren($("p", { class: "soft" }, names.map(n => n + ": " + m.libraries[n].state).join(" · ") || "No library was measured beside ours on this machine."),
        table(["op", "case", "backend", "ours#", ...names.flatMap(n => [n + "#"])], keys.filter(k => k.split("/")[1].includes(state.op)).map(k => { const [backend, op, , case_, direction] = k.split("/"); const first = names.map(n => m.libraries[n].ratios?.[k]).find(x => x);
          return $("tr", {}, cell(op), cell(case_ + (direction === "forward" ? "" : ", " + direction)), cell(backend), cell(seconds(first?.ours), true), ...names.map(n => { const r = m.libraries[n].ratios?.[k]; return cell(r ? r.ratio.toFixed(2) + "×" : "–", true, r ? (r.ratio > 1 + D.threshold ? "slower" : r.ratio < 1 - D.threshold ? "faster" : "") : ""); })); }), names.length ? "Nothing found." : ""));
      rows();
    };
    draw();
  },
};

const W = Math.max(340, Math.min(900, innerWidth - 32)), H = W < 600 ? 340 : 420, L = 64, B = 44, T = 14, R = 16;  // one unit is one pixel, also on a phone
function ticks(low, high) { const out = []; for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) for (const k of high / low > 1e3 ? [1] : high / low > 30 ? [1, 3] : [1, 1.5, 2, 3, 5, 7]) { const v = k * 10 ** e; if (v >= low * .999 && v <= high * 1.001) out.push(v); } return out; }
function frame(low, high, text) {
  const svg = $("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" }), y = v => H - B - (Math.log(v / low) / Math.log(high / low)) * (H - B - T);
  for (const v of ticks(low, high)) svg.append($("line", { class: "axis", x1: L, x2: W - R, y1: y(v), y2: y(v) }), $("text", { x: L - 6, y: y(v) + 4, "text-anchor": "end" }, text(v)));
  return [svg, y];
}
function lines(m, rows, note) {
  const values = rows.flatMap(r => r.v.filter(x => x != null && x > 0)); if (!values.length) return $("p", {}, "No result.");
  const unit = rows[0].b.includes(".track_") ? v => v.toPrecision(3) : seconds;
  const [svg, y] = frame(Math.min(...values) / 1.15, Math.max(...rows.flatMap(r => r.q.concat(r.v).filter(x => x != null))) * 1.15, unit);
  const x = i => L + 12 + (m.commits.length > 1 ? i / (m.commits.length - 1) : .5) * (W - L - R - 24), legend = $("div", { class: "legend" });
  for (let i = 0; i < m.commits.length; i += Math.ceil(m.commits.length / (W / 100))) svg.append($("text", { x: x(i), y: H - B + 20, "text-anchor": "middle" }, m.commits[i].slice(0, 7)));
  rows.forEach((row, n) => {
    const color = `var(${COLORS[n % COLORS.length]})`, points = row.v.map((v, i) => [i, v]).filter(([, v]) => v != null && v > 0), name = row.p[0] || short(row.b);
    legend.append($("span", {}, $("i", { style: `background:${color}` }), name));
    svg.append($("polyline", { points: points.map(([i, v]) => `${x(i)},${y(v)}`).join(" "), fill: "none", stroke: color, "stroke-width": 2 }));
    for (const [i, v] of points) {
      if (row.q[i] > v) svg.append($("line", { x1: x(i), x2: x(i), y1: y(v), y2: y(row.q[i]), stroke: color, "stroke-opacity": .45, "stroke-width": 3 }));
      const c = byHash[m.commits[i]], tell = () => note.replaceChildren(`${name}: ${unit(v)}` + (row.q[i] ? ` (third quartile ${unit(row.q[i])})` : "") + " at ", commitLink(c.hash), `, ${new Date(c.date * 1e3).toISOString().slice(0, 10)}`);
      svg.append($("circle", { class: "dot", cx: x(i), cy: y(v), r: 5, fill: color, tabindex: 0, onmouseenter: tell, onclick: tell, onfocus: tell }));
    }
  });
  for (const change of m.changes.filter(c => rows.some(r => r.b === c.b && r.p.join() === c.p.join()))) svg.append($("line", { x1: x(m.commits.indexOf(change.commit)), x2: x(m.commits.indexOf(change.commit)), y1: T, y2: H - B, stroke: change.ratio > 1 ? "var(--bad)" : "var(--good)", "stroke-dasharray": "3 5" }));
  return $("div", {}, svg, legend);
}
function roof(m, backend, points, note) {
  const mine = m.peaks[backend], peaks = Object.values(m.peaks).filter(p => p.device.kind === mine.device.kind), flops = Math.max(...peaks.map(p => p.flops)), sizes = Object.keys(mine.bandwidth).map(Number).sort((a, b) => a - b);
  const rate = size => Math.max(...peaks.map(p => p.bandwidth[size] || 0)), memory = rate(sizes[sizes.length - 1]), cache = Math.max(...sizes.map(rate));
  points = points.filter(p => p.flops > 0 && p.bytes > 0);
  const lowX = Math.min(.05, ...points.map(p => p.flops / p.bytes)) / 1.5, highX = Math.max(100, ...points.map(p => p.flops / p.bytes)) * 1.5, rates = points.map(p => p.flops / p.s);
  const [svg, y] = frame(Math.min(flops / 1e4, ...rates) / 1.5, flops * 2, v => v >= 1e12 ? v / 1e12 + " T" : v >= 1e9 ? v / 1e9 + " G" : v >= 1e6 ? v / 1e6 + " M" : v / 1e3 + " k");
  const x = v => L + Math.log(v / lowX) / Math.log(highX / lowX) * (W - L - R), clip = (v, bw) => y(Math.min(flops, v * bw));
  for (const v of ticks(lowX, highX)) svg.append($("text", { x: x(v), y: H - B + 18, "text-anchor": "middle" }, String(+v.toPrecision(2))));
  svg.append($("text", { x: (L + W) / 2, y: H - 6, "text-anchor": "middle" }, "flop per byte"), $("text", { x: L + 4, y: T + 2 }, "flop/s"));
  for (const [bw, label] of [[memory, "memory"], [cache, "caches"]]) {
    const bottom = lowX, ridge = Math.min(highX, flops / bw), shown = Math.max(bottom, 0);
    svg.append($("polyline", { class: "roof", points: [[shown, clip(shown, bw)], [ridge, clip(ridge, bw)], [highX, y(flops)]].map(([a, b]) => `${x(a)},${Math.min(b, H - B)}`).join(" ") }), $("text", { x: x(lowX) + 6, y: clip(lowX, bw) - 8, transform: `rotate(${-Math.atan2(clip(lowX, bw) - clip(ridge, bw), x(ridge) - x(lowX)) * 180 / Math.PI} ${x(lowX) + 6} ${clip(lowX, bw) - 8})` }, `${label} ${(bw / 1e9).toFixed(0)} GB/s`));
  }
  svg.append($("text", { x: x(highX) - (W < 600 ? 0 : 150), y: y(flops) - 8, "text-anchor": "end" }, `${(flops / 1e9).toFixed(0)} GFLOP/s`));
  const tell = p => note.replaceChildren(graphLink(m.name, `ops.${p.op}.time_call`, p.p), `: ${seconds(p.s)}, ${(p.flops / p.s / 1e9).toPrecision(3)} GFLOP/s, ${(p.bytes / p.s / 1e9).toPrecision(3)} GB/s, ${(p.missed * 100).toFixed(0)} % of the roofline missed`);
  for (const p of points) svg.append($("circle", { class: "dot", cx: x(p.flops / p.bytes), cy: y(p.flops / p.s), r: 5, fill: "var(--c0)", "fill-opacity": .65, tabindex: 0, "data-op": p.op, onmouseenter: () => tell(p), onclick: () => tell(p), onfocus: () => tell(p) }));
  return svg;
}
pages[document.body.dataset.page]();
document.querySelector("#built").textContent = new Date(D.built * 1e3).toISOString().slice(0, 16).replace("T", " ") + " UTC";
})();
