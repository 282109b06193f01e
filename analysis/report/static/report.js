"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const MISSING = "–";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const number = (value, digits = 2) => value === null || value === undefined ? MISSING : value.toFixed(digits).replace("-", "−");
  const signed = (value, digits = 2) => value === null ? MISSING : (value < 0 ? "" : "+") + number(value, digits);
  const SVG = "http://www.w3.org/2000/svg";

  /** An element with attributes and children; texts are set as texts, never parsed. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }
  function draw(name, attributes = {}, text = null) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  }
  function chip(word) {
    const look = DATA.chips[word] || { tone: "plain", glyph: "·" };
    return make("span", { class: `chip ${look.tone}` }, make("span", { class: "glyph", "aria-hidden": "true" }, look.glyph), word);
  }
  function median(values) {
    const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
  function duration(seconds) {
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole} s`;
    const pad = (n) => String(n).padStart(2, "0");
    return whole < 3600 ? `${Math.floor(whole / 60)} min ${pad(whole % 60)} s` : `${Math.floor(whole / 3600)} h ${pad(Math.floor(whole % 3600 / 60))} min`;
  }

  /* theme */
  const theme = $("#theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("ssa-report-theme", chosen); } catch (error) { /* not kept */ }
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  /* profiles */
  let profile = ($(".profile:not([hidden])") || { dataset: {} }).dataset.profile;
  function choose(name) {
    if (!$(`.profile[data-profile="${CSS.escape(name)}"]`)) return false;
    profile = name;
    for (const part of $$("[data-profile]")) part.hidden = part.dataset.profile !== name;
    for (const radio of $$("input[name=profile]")) radio.checked = radio.value === name;
    filter();
    return true;
  }
  for (const radio of $$("input[name=profile]")) {
    radio.addEventListener("change", () => {
      const anchor = here && here.dataset.anchor;
      choose(radio.value);
      const same = anchor && document.getElementById(`${radio.value}.${anchor}`);
      if (same && scrollY > 200) same.scrollIntoView();
    });
  }

  /* filter */
  const words = $("#filter"), state = $("#state"), count = $("#count");
  function filter() {
    const root = $(`.profile[data-profile="${CSS.escape(profile)}"]`);
    if (!root) return;
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, all = 0;
    for (const table of $$("table.numbers", root)) {
      let here = 0;
      for (const row of $$("tbody tr", table)) {
        const fits = (!state.value || row.dataset.state === state.value) && wanted.every((word) => row.dataset.search.includes(word));
        row.hidden = !fits;
        here += fits;
        if (table.dataset.table) { shown += fits; all += 1; }
      }
      const card = table.closest(".table-card");
      if (card) card.hidden = here === 0;
    }
    const filtered = wanted.length > 0 || state.value !== "";
    count.textContent = filtered ? `${shown} of ${all} rows` : `${all} rows`;
    $(".nothing", root).hidden = shown > 0 || all === 0;
    for (const part of $$(".part", root)) {
      let next = part.nextElementSibling, any = false;
      while (next && next.classList.contains("table-card")) { any = any || !next.hidden; next = next.nextElementSibling; }
      part.hidden = !any;
    }
  }
  words.addEventListener("input", filter);
  state.addEventListener("change", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !panel.open && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      words.focus();
    }
  });

  /* sorting: up, down, as the paper has it; what is missing comes last */
  for (const table of $$("table.numbers")) {
    const body = table.tBodies[0], original = [...body.rows];
    for (const button of $$("thead .sort", table)) {
      button.addEventListener("click", () => {
        const head = button.closest("th"), column = head.cellIndex;
        const now = head.getAttribute("aria-sort");
        const next = now === "ascending" ? "descending" : now === "descending" ? null : "ascending";
        for (const other of $$("thead th", table)) other.removeAttribute("aria-sort");
        if (next === null) { body.append(...original); return; }
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1, numeric = button.dataset.kind === "number";
        const key = (row) => row.cells[column].dataset.sort;
        body.append(...[...original].sort((a, b) => {
          const x = key(a), y = key(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
        }));
      });
    }
  }

  /* the panel */
  const panel = $("#panel"), body = $("#panel-body");
  let opener = null;
  function open(where, title, content, from, wide = false) {
    opener = from;
    $("#panel-where").textContent = where;
    $("#panel-title").textContent = title;
    body.replaceChildren(...content);
    panel.classList.toggle("wide", wide);
    if (!panel.open) panel.showModal();
    panel.scrollTop = 0;
    $("#panel-title").focus();
  }
  $("#panel-close").addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  panel.addEventListener("close", () => {
    if (opener && opener.isConnected) opener.focus();
    opener = null;
    if (location.hash.startsWith("#cell=")) history.replaceState(null, "", location.pathname + location.search);
  });
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-cell]"), run = event.target.closest("[data-run]"), zoom = event.target.closest(".zoom");
    if (cell) { history.replaceState(null, "", `#cell=${encodeURI(cell.dataset.cell)}`); openCell(cell.dataset.cell, cell); }
    else if (run) openRun(run.dataset.run, panel.open ? opener : run);
    else if (zoom) openFigure(zoom);
  });

  function facts(pairs) {
    const list = make("dl", { class: "facts-list" });
    for (const [name, value] of pairs) if (value !== null && value !== "") list.append(make("dt", {}, name), make("dd", {}, ...[].concat(value)));
    return list;
  }
  function heading(text) { return make("h3", {}, text); }
  function quiet(text) { return make("p", { class: "quiet" }, text); }
  function table(columns, rows) {
    const cells = (kind, row) => row.map((value, i) => make(kind, kind === "th" ? { scope: "col", class: columns[i][1] || "" } : { class: columns[i][1] || "" }, ...[].concat(value)));
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns.map((c) => c[0]).join(", ") },
      make("table", { class: "small" },
        make("thead", {}, make("tr", {}, ...cells("th", columns.map((c) => c[0])))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells("td", row))))));
  }
  /** What an element says, to the clipboard; where a page may not write there, by selecting it. */
  async function copy(element) {
    try { await navigator.clipboard.writeText(element.textContent); } catch (error) {
      const range = document.createRange();
      range.selectNodeContents(element);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
  }
  function commands(lines) {
    return lines.map((line) => {
      const button = make("button", { type: "button", class: "tool", "aria-label": `Copy: ${line}` }, "Copy");
      button.addEventListener("click", async () => {
        await copy(button.previousSibling);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      return make("div", { class: "command" }, make("pre", {}, line), button);
    });
  }
  function runButton(id) { return make("button", { type: "button", class: "cell code", "data-run": id }, id); }

  function openCell(address, from) {
    const [inProfile, tableName, rowId, metric] = address.split("/");
    const row = DATA.rows[`${inProfile}/${tableName}/${rowId}`];
    if (!row || !(metric === "miou" || row.counts[metric])) return false;
    const about = DATA.tables[`${inProfile}/${tableName}`];
    const where = `${about.source} · profile ${inProfile}`;
    if (metric === "miou") open(`${where} · mIoU`, row.label, miouDetails(row, inProfile, tableName), from);
    else open(`${where} · ${DATA.metrics[metric].long_title}`, row.label, countDetails(row, metric, tableName), from);
    return true;
  }

  function countDetails(row, metric, tableName) {
    const cell = row.counts[metric], name = DATA.metrics[metric];
    const bench = name.source === "bench", recorded = name.source === "record";
    const content = [facts([
      ["Measured", !bench ? `${number(cell.measured, 3)} ${name.unit}` : row.latencies.length ? row.latencies.map((text) => make("p", {}, text)) : "no ratio on this device yet"],
      ["Paper", cell.reported === null ? MISSING : `${number(cell.reported, name.paper_digits)} ${name.unit}`],
      ["Verdict", bench || name.judged === "never" ? null : [chip(cell.verdict.word), ` ${cell.verdict.reason}`]],
      ["Network", recorded ? `${row.model}, trained on ${row.dataset}` : `${row.model}, at the size of the paper, on ${row.paper_dataset.replace("_", "-")}`],
      ["What it is", name.long_title + " " + name.meaning],
    ])];
    if (cell.note) content.push(make("p", {}, cell.note));
    content.push(heading(recorded ? "Run it again" : bench ? "Measure it" : "Count it again"));
    content.push(...commands(recorded ? row.commands : bench ? ["./run_all.sh bench latency --help"] : [`./run_all.sh ${tableName} --only complexity`]));
    if (bench) content.push(quiet("Latency depends on the device; only ratios on one device are to be compared."));
    return content;
  }

  function miouDetails(row, inProfile, tableName) {
    const runs = row.runs.map((id) => DATA.runs[id]);
    const base = row.baseline === null ? null : DATA.rows[`${inProfile}/${tableName}/${row.baseline}`];
    const baseRuns = base ? base.runs.map((id) => DATA.runs[id]) : [];
    const gain = row.gain, content = [];
    content.push(facts([
      ["Measured", row.miou ? `${number(row.miou.median)} %` + (row.miou.num_seeds > 1 ? `, from ${number(row.miou.low)} to ${number(row.miou.high)} over ${row.miou.num_seeds} seeds` : ", one seed") : MISSING],
      ["Gain", gain ? `${signed(gain.value)} points over ${base.label}, 95 % interval ${signed(gain.low)} to ${signed(gain.high)} (${gain.num_seeds} seed${gain.num_seeds > 1 ? "s" : ""}, ${gain.num_images} images); p = ${gain.p_value < 0.001 ? "below 0.001" : number(gain.p_value, 3)}` : null],
      ["Paper", row.reported_miou === null ? MISSING : `${number(row.reported_miou)} %` + (row.reported_gain === null ? "" : `, gain ${signed(row.reported_gain)}`) + ` on ${row.paper_dataset.replace("_", "-")}`],
      ["Released code", row.readme_miou === null ? null : `${number(row.readme_miou)} % in its README`],
      ["Versus the paper", [chip(row.versus_paper.word), row.versus_paper.word === "blocked" ? "" : ` ${row.versus_paper.reason}`]],
      ["Reference", row.reference_miou === null ? null : [`${number(row.reference_miou)} % `, chip(row.versus_reference.word), ` ${row.versus_reference.reason}`]],
      ["Network", `${row.model}${runs.length ? `, size ${DATA.configs[runs[0].config].model_size}` : ""}, trained on ${row.dataset}`],
    ]));
    for (const text of row.stale) content.push(make("p", { class: "warning" }, make("strong", {}, "Stale. "), `These runs are whole, but code that they used was ${text}.`));
    if (row.absent.length) content.push(make("p", { class: "warning" }, make("strong", {}, row.state === "blocked" ? "Blocked. " : runs.length ? "Missing. " : "Not run. "), row.absent.join("; ")));
    for (const text of row.notes) content.push(make("p", {}, text));
    if (runs.length) {
      content.push(heading("Runs"), runsTable(runs));
      content.push(heading("Curve on the evaluated split"), curve(runs, baseRuns, row.label, base && base.label), curveNumbers(runs));
      content.push(...classes(runs, baseRuns, base && base.label));
    }
    content.push(heading(runs.length ? "Run it again, beside the old" : "Run it"), ...commands(row.commands));
    if (runs.length) content.push(heading("Configuration"), ...configuration(runs[0], baseRuns[0], base && base.label));
    return content;
  }

  function runsTable(runs) {
    return table([["Seed", "right"], ["mIoU, %", "right"], ["Pixels right, %", "right"], ["Time", "right"], ["Commit"], ["Digest"], ["Run"]],
      runs.map((run) => [String(run.seed), number(run.miou), number(run.aacc), duration(run.total_s),
        [make("code", {}, (run.git_commit || MISSING).slice(0, 10)), run.git_dirty ? " with changed files" : ""], make("code", { title: run.result_digest }, run.result_digest.slice(0, 10)), runButton(run.run_id)]));
  }

  /* mIoU over iterations: each seed, their median, and the band from smallest to largest */
  function seedBand(runs) {
    const places = [...new Set(runs.flatMap((run) => run.curve.map((point) => point[0])))].sort((a, b) => a - b);
    return places.map((at) => {
      const values = runs.flatMap((run) => run.curve.filter((point) => point[0] === at).map((point) => point[1]));
      return [at, Math.min(...values), median(values), Math.max(...values)];
    });
  }
  function curve(runs, baseRuns, label, baseLabel) {
    const wide = innerWidth >= 640, width = wide ? 680 : 340;
    const height = wide ? 250 : 220, left = 34, right = wide ? 130 : 84, top = 10, bottom = 34;
    const ours = seedBand(runs), theirs = seedBand(baseRuns), every = [...ours, ...theirs];
    const last = Math.max(...every.map((p) => p[0]));
    const highest = Math.max(...every.map((p) => p[3])), lowest = Math.min(...every.map((p) => p[1]));
    const step = [1, 2, 5, 10, 20].find((s) => (highest - Math.min(lowest, highest - 1)) / s <= 6) || 25;
    const from = Math.floor(lowest / step) * step, to = Math.max(Math.ceil(highest / step) * step, from + step);
    const x = (at) => left + (width - left - right) * at / last;
    const y = (value) => top + (height - top - bottom) * (1 - (value - from) / (to - from));
    const svg = draw("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `mIoU over iterations: ${label} ends at ${number(ours.at(-1)[2])} %` + (theirs.length ? `, ${baseLabel} at ${number(theirs.at(-1)[2])} %` : "") });
    for (let value = from; value <= to; value += step) {
      svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }), draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    const ticks = ours.length > 5 ? ours.filter((_, i) => (ours.length - 1 - i) % Math.ceil(ours.length / 5) === 0) : ours;
    for (const [at] of ticks) svg.append(draw("text", { x: x(at), y: height - bottom + 16, "text-anchor": "middle" }, String(at)));
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, "iteration"), draw("text", { x: left - 6, y: height - bottom + 16, "text-anchor": "end" }, "%"));
    const line = (points, pick) => points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(pick(p)).toFixed(1)}`).join("");
    const ends = [];
    for (const [points, kind, name, of] of [[theirs, "theirs", baseLabel, baseRuns], [ours, "ours", label, runs]]) {
      if (!points.length) continue;
      if (of.length > 1) {
        svg.append(draw("polygon", { class: `band ${kind}`, points: [...points.map((p) => `${x(p[0])},${y(p[3])}`), ...[...points].reverse().map((p) => `${x(p[0])},${y(p[1])}`)].join(" ") }));
        if (kind === "ours") for (const run of of) svg.append(draw("path", { class: "seed ours", d: line(run.curve, (p) => p[1]) }));
      }
      svg.append(draw("path", { class: `median ${kind}`, d: line(points, (p) => p[2]) }));
      if (points.length === 1) svg.append(draw("circle", { cx: x(points[0][0]), cy: y(points[0][2]), r: 3, fill: `var(--${kind})` }));
      ends.push([y(points.at(-1)[2]), kind, name]);
    }
    if (ends.length === 2 && Math.abs(ends[0][0] - ends[1][0]) < 28) {
      const middle = (ends[0][0] + ends[1][0]) / 2, sign = ends[0][0] < ends[1][0] ? -1 : 1;
      ends[0][0] = middle + sign * 14; ends[1][0] = middle - sign * 14;
    }
    for (const [at, kind, name] of ends) {
      const text = draw("text", { class: kind, x: width - right + 8, y: at + 4 }), value = (kind === "ours" ? ours : theirs).at(-1)[2];
      const short = name.length > (wide ? 17 : 11) ? `${name.slice(0, wide ? 16 : 10)}…` : name;
      text.append(draw("tspan", {}, short), draw("tspan", { x: width - right + 8, dy: 13 }, `${number(value)} %`));
      svg.append(text);
    }
    return svg;
  }
  function curveNumbers(runs) {
    const rows = seedBand(runs).map(([at, low, middle, high]) => [String(at), number(middle), number(low), number(high)]);
    return make("details", {}, make("summary", {}, "The curve as numbers"), table([["Iteration", "right"], ["Median", "right"], ["Smallest", "right"], ["Largest", "right"]], rows));
  }

  function classes(runs, baseRuns, baseLabel) {
    const names = DATA.classes[runs[0].classes];
    const middle = (some, k) => { const v = some.map((run) => run.per_class_iou[k]).filter((x) => x !== null); return v.length ? median(v) : null; };
    const rows = names.map((name, k) => ({ name, ours: middle(runs, k), theirs: baseRuns.length ? middle(baseRuns, k) : null }));
    const compared = rows.some((row) => row.theirs !== null);
    if (!compared) {
      rows.sort((a, b) => (b.ours ?? -1) - (a.ours ?? -1));
      return [heading("IoU of each class, median over seeds"), table([["Class"], ["IoU, %", "right"]], rows.map((row) => [row.name, number(row.ours)]))];
    }
    for (const row of rows) row.change = row.ours === null || row.theirs === null ? null : row.ours - row.theirs;
    rows.sort((a, b) => (b.change ?? -1e9) - (a.change ?? -1e9));
    const most = Math.max(1, ...rows.map((row) => Math.abs(row.change ?? 0)));
    const grid = make("div", { class: "bars", role: "table", "aria-label": `IoU of each class and its change against ${baseLabel}` });
    const put = (role, ...cells) => { const line = make("div", { role: "row", style: "display: contents" }); for (const cell of cells) { cell.setAttribute("role", role); line.append(cell); } grid.append(line); };
    put("columnheader", make("span", { class: "head" }, "Class"), make("span", { class: "head" }, `change against ${baseLabel}`), make("span", { class: "head right" }, "points"), make("span", { class: "head right" }, "IoU, %"));
    for (const row of rows) {
      const axis = make("span", { class: "axis" });
      if (row.change !== null) {
        const share = 50 * Math.abs(row.change) / most;
        const bar = make("span", { class: row.change < 0 ? "bar less" : "bar" });
        bar.style.left = `${row.change < 0 ? 50 - share : 50}%`;
        bar.style.width = `${share}%`;
        axis.append(bar);
      }
      put("cell", make("span", {}, row.name), axis, make("span", { class: "right" }, row.change === null ? MISSING : signed(row.change, 1)), make("span", { class: "right" }, number(row.ours, 1)));
    }
    return [heading("IoU of each class, median over seeds"), grid];
  }

  function flatten(value, path = "", into = new Map()) {
    if (value !== null && typeof value === "object" && Object.keys(value).length && !(Array.isArray(value) && value.every((v) => v === null || typeof v !== "object"))) {
      for (const [key, inner] of Object.entries(value)) flatten(inner, path ? `${path}.${key}` : key, into);
    } else into.set(path, JSON.stringify(value));
    return into;
  }
  function configuration(run, baseRun, baseLabel) {
    const ours = flatten(DATA.configs[run.config]), content = [];
    if (baseRun) {
      const theirs = flatten(DATA.configs[baseRun.config]);
      const paths = [...new Set([...ours.keys(), ...theirs.keys()])].filter((path) => ours.get(path) !== theirs.get(path));
      // the resolved classifier says it all; its copy in the network's config repeats it
      const own = paths.filter((path) => !path.startsWith("segmentor."));
      const shown = own.length ? own : paths;
      content.push(make("details", { open: "" }, make("summary", {}, `${shown.length} setting${shown.length === 1 ? "" : "s"} differ${shown.length === 1 ? "s" : ""} from ${baseLabel}`),
        table([["Setting", "path"], ["Here", "path"], [baseLabel, "path"]], shown.map((path) => [path, ours.get(path) ?? "not there", theirs.get(path) ?? "not there"]))));
    }
    content.push(make("details", {}, make("summary", {}, `All ${ours.size} settings of the run`), table([["Setting", "path"], ["Value", "path"]], [...ours])));
    return content;
  }

  function openRun(id, from) {
    const run = DATA.runs[id];
    if (!run) return false;
    const deviations = run.deviations.length ? run.deviations.join("; ") : "none";
    const content = [
      facts([
        ["mIoU", `${number(run.miou)} %`], ["Pixels right", `${number(run.aacc)} %`], ["Mean accuracy", `${number(run.macc)} %`],
        ["Seed", String(run.seed)], ["Images", String(run.num_images)],
        ["State", run.stale ? [chip("stale"), ` ${run.stale}`] : "current: the code that it used is unchanged"],
        ["Asked for", run.used ? null : "by no row that is shown: its settings are not those of the profile now"],
        ["Deviations", deviations], ["Resumed at", run.resumed_at.length ? `iteration ${run.resumed_at.join(", ")}` : null],
      ]),
      heading("Where and when"),
      facts([
        ["Finished", run.finished], ["Took", `${duration(run.total_s)}, ${number(run.iteration_ms, 1)} ms a training step`],
        ["Memory", `${number(run.peak_memory_mb, 0)} MB at most`], ["Device", run.device], ["Software", `torch ${run.torch}, Python ${run.python}`],
        ["Commit", [make("code", {}, run.git_commit || MISSING), run.git_dirty ? " with changed files" : ""]],
        ["Code", make("code", {}, run.code_digest)], ["Data", make("code", {}, run.dataset_digest)], ["Result", make("code", {}, run.result_digest)],
        ["Files", make("code", {}, `runs/${run.run_id}/`)],
      ]),
      heading("Curve on the evaluated split"), curve([run], [], `seed ${run.seed}`, null), curveNumbers([run]),
      ...classes([run], [], null),
      heading("Configuration"), ...configuration(run, null, null),
    ];
    open(`Run · profile ${run.profile}`, run.run_id, content, from);
    return true;
  }

  function openFigure(button) {
    const figure = button.closest("figure"), picture = $("img", figure);
    const large = make("img", { class: "large", src: picture.src, alt: picture.alt, width: picture.getAttribute("width"), height: picture.getAttribute("height") });
    open("Figure", picture.alt, [make("p", {}, large), quiet($("figcaption", figure).textContent)], button, true);
  }

  /* masks */
  for (const viewer of $$(".viewer")) {
    const scenes = DATA.scenes.filter((scene) => scene.profile === viewer.dataset.viewer);
    const pick = { scene: $("select.scene", viewer), left: $("select.left", viewer), right: $("select.right", viewer) };
    const stage = $(".stage", viewer), slider = $(".slider", viewer), blend = $(".blend", viewer), veil = $("input.veil", viewer);
    const scene = () => scenes.find((one) => one.id === pick.scene.value);
    const image = (source, kind) => make("img", { class: kind, src: DATA.pictures[source], alt: "" });
    function offer() {
      const now = scene();
      const of = (kind) => now.layers.findIndex((layer) => layer.kind === kind);
      const last = now.layers.length - 1;
      for (const [side, fallback] of [["left", of("baseline") < 0 ? 1 : of("baseline")], ["right", of("ours") < 0 ? last : of("ours")]]) {
        const before = pick[side].value;
        pick[side].replaceChildren(...now.layers.map((layer) => make("option", { value: layer.id }, layer.title)));
        pick[side].value = now.layers.some((layer) => layer.id === before) ? before : now.layers[fallback].id;
      }
      stage.style.aspectRatio = `${now.width} / ${now.height}`;
      $(".legend", viewer).replaceChildren(...now.legend.map(([name, colour]) => {
        const swatch = make("span", { class: "swatch" });
        swatch.style.background = colour;
        return make("li", {}, swatch, name);
      }));
      show();
    }
    function show() {
      const now = scene(), photo = now.layers[0].picture;
      for (const [side, place] of [["left", ".over"], ["right", ".under"]]) {
        const layer = now.layers.find((one) => one.id === pick[side].value), isPhoto = layer.id === "image";
        const pictures = [image(photo, "photo")];
        if (!isPhoto) pictures.push(image(layer.picture, "mask pixels"));
        if (veil.checked && layer.veil) pictures.push(image(layer.veil, "pixels"));
        $(place, viewer).replaceChildren(...pictures);
        $(`.tag.${side}`, viewer).textContent = layer.title;
      }
      const chosen = now.layers.filter((layer) => ["image", "truth"].includes(layer.id) || layer.id === pick.left.value || layer.id === pick.right.value);
      $(".strip", viewer).replaceChildren(...chosen.map((layer) => make("li", {},
        make("img", { class: layer.id === "image" ? "" : "pixels", src: DATA.pictures[layer.picture], alt: `${layer.title} of ${now.title}`, width: now.width, height: now.height }),
        make("strong", {}, layer.title), layer.correct === null ? "" : make("span", { class: "sub" }, `${number(layer.correct, 1)} % of its pixels right`),
        layer.run_id ? make("button", { type: "button", class: "cell", "data-run": layer.run_id, "aria-label": `Run behind ${layer.title}` }, make("span", { class: "value" }, "its run")) : "")));
      stage.classList.toggle("blended", blend.checked);
      const name = (side) => pick[side].selectedOptions[0].textContent;
      stage.setAttribute("aria-label", `${now.title}: ${name("left")} left of the slider, ${name("right")} right of it`);
      cut();
    }
    function cut() {
      stage.style.setProperty("--cut", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${slider.value} % ${pick.left.selectedOptions[0].textContent}, ${100 - slider.value} % ${pick.right.selectedOptions[0].textContent}`);
    }
    pick.scene.addEventListener("change", offer);
    for (const control of [pick.left, pick.right, blend, veil]) control.addEventListener("change", show);
    slider.addEventListener("input", cut);
    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      slider.value = Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
      cut();
    };
    stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
    stage.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    offer();
  }

  /* addresses: #table08, #camvid.table08, #camvid.table08.full, #cell=camvid/table8/full/miou */
  function follow() {
    let hash = "";
    try { hash = decodeURIComponent(location.hash.slice(1)); } catch (error) { return; }
    for (const row of $$("tr.target")) row.classList.remove("target");
    if (hash.startsWith("cell=")) {
      const address = hash.slice(5);
      if (!choose(address.split("/")[0])) return;
      const button = $(`[data-cell="${CSS.escape(address)}"]`);
      if (button) button.scrollIntoView({ block: "center" });
      openCell(address, button);
      return;
    }
    const target = document.getElementById(hash) || document.getElementById(`${profile}.${hash}`);
    if (!target) return;
    const part = target.closest("[data-profile]");
    if (part && part.hidden) choose(part.dataset.profile);
    if (target.tagName === "TR") target.classList.add("target");
    target.scrollIntoView();
  }
  addEventListener("hashchange", follow);

  /* what is behind a number, on hover and on focus; Escape puts it away */
  const hint = $("#hint");
  function hush() {
    hint.hidden = true;
    for (const cell of $$("[aria-describedby=hint]")) cell.removeAttribute("aria-describedby");
  }
  function tell(event) {
    const cell = event.target.closest("[data-tip]");
    if (!cell || panel.open) return;
    hush();
    hint.textContent = cell.dataset.tip;
    hint.hidden = false;
    const box = cell.getBoundingClientRect(), own = hint.getBoundingClientRect();
    hint.style.left = `${Math.max(8, Math.min(box.left, innerWidth - own.width - 8))}px`;
    hint.style.top = `${box.top < own.height + 60 ? box.bottom + 4 : box.top - own.height - 4}px`;
    cell.setAttribute("aria-describedby", "hint");
  }
  for (const begin of ["pointerover", "focusin"]) document.addEventListener(begin, tell);
  for (const end of ["pointerout", "focusout", "click"]) document.addEventListener(end, hush);
  document.addEventListener("scroll", hush, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });

  /* texts to take along: a table's LaTeX and CSV */
  const copied = $("#copied");
  for (const button of $$("button[data-copies]")) {
    button.addEventListener("click", async () => {
      await copy(document.getElementById(button.dataset.copies));
      copied.textContent = `${button.dataset.what} copied`;
      setTimeout(() => { copied.textContent = ""; }, 3000);
    });
  }

  /* where the reader is, in the side bar */
  let here = null;
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) here = entry.target;
    for (const link of $$(".side a")) {
      const now = here !== null && link.hash === `#${here.id}` && link.pathname === location.pathname;
      link.classList.toggle("here", now);
      if (now) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of $$("section[data-anchor], section#reading")) watch.observe(section);

  /* paper: what is folded opens */
  let folded = [];
  addEventListener("beforeprint", () => { folded = $$("details[data-print-open]:not([open])"); for (const one of folded) one.open = true; });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

  filter();
  follow();
})();
