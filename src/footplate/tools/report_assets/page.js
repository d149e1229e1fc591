"use strict";
(() => {
  // No prototype, so that a scalar named "constructor" is not found on every object.
  const bare = (_, value) => (value && typeof value === "object" && !Array.isArray(value) ? Object.assign(Object.create(null), value) : value);
  const data = JSON.parse(document.getElementById("data").textContent, bare);
  const root = document.documentElement;
  // Okabe and Ito's palette for color-blind readers; a second set for the dark theme.
  const colors = {
    light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a06a00", "#2a8ac0", "#6e6e6e", "#7a6214"],
    dark: ["#56b4e9", "#ff9440", "#35c89c", "#e59bc5", "#e6b422", "#9bd0f5", "#b5b5b5", "#d0b84a"],
  };
  const plots = [];
  let smoothing = 0;

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };
  const theme = () => root.dataset.theme;
  const colorOf = (run) => colors[theme()][run % 8];
  const swatch = (run) => make("span", { class: "swatch", "data-run": run, style: `background:${colorOf(run)}` });
  const short = (value) => (value == null ? "" : Number(value.toPrecision(5)).toString());
  const clock = (s) => `${Math.floor(s / 3600)}:${String(Math.floor(s / 60) % 60).padStart(2, "0")}:${String(Math.floor(s) % 60).padStart(2, "0")}`;
  const nothing = (id, words) => document.getElementById(id).append(make("p", { class: "note" }, words));

  // Theme.
  const stored = () => { try { return localStorage.getItem("footplate-theme"); } catch { return null; } };
  const setTheme = (name) => {
    root.dataset.theme = name;
    const button = document.getElementById("theme");
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-pressed", name === "dark");
    document.querySelectorAll(".swatch").forEach((each) => { each.style.background = colorOf(Number(each.dataset.run)); });
    drawCharts();
  };
  document.getElementById("theme").addEventListener("click", () => {
    const name = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("footplate-theme", name); } catch { /* a page opened from a file may not store */ }
    setTheme(name);
  });

  // Summary.
  const figures = () => {
    const table = document.getElementById("figures");
    const names = data.runs.map((run, number) => make("th", { class: "number", scope: "col" }, swatch(number), run.name));
    table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), ...names)));
    const body = make("tbody");
    const row = (label, values, best) => {
      const cells = values.map((value, number) => make("td", { class: best === number ? "number best" : "number" }, value ?? ""));
      body.append(make("tr", {}, make("th", { scope: "row" }, label), ...cells));
    };
    const each = (pick) => data.runs.map((run) => pick(run.summary));
    const whole = (s) => s.logged === s.iterations;
    row("iterations", each((s) => String(s.iterations)));
    const bests = [...new Set(data.runs.flatMap((run) => Object.keys(run.summary.best)))];
    for (const name of bests) {
      const values = each((s) => s.best[name]);
      const sign = values.some((v) => v && v.small) ? -1 : 1;
      const known = values.map((v) => (v ? sign * v.value : -Infinity));
      const best = values.filter(Boolean).length > 1 && new Set(known).size > 1 ? known.indexOf(Math.max(...known)) : -1;
      row(`best ${name}`, values.map((v) => v && `${short(v.value)} at ${v.iteration}`), best);
    }
    row("seconds per iteration", each((s) => s.time && short(s.time.mean)));
    row("waiting for data", each((s) => s.time && `${(100 * s.time.data_share).toFixed(1)}%`));
    row("training time", each((s) => s.time && clock(s.time.total) + (whole(s) ? "" : ` in the ${s.logged} iterations logged`)));
    row("peak memory", each((s) => s.memory && `${s.memory} MiB`));
    for (const name of [...new Set(data.runs.flatMap((run) => Object.keys(run.summary.last)))])
      row(`last ${name}`, each((s) => short(s.last[name]) + (whole(s) || s.last[name] == null ? "" : ` at ${s.logged}`)));
    row("checkpoints", each((s) => String(Object.keys(s.checkpoints).length)));
    table.append(body);
  };

  // Curves.
  const smoothed = (values) => {
    let sum = 0, weight = 0;
    return values.map((value) => {
      if (value == null) return value;
      sum = sum * smoothing + value; weight = weight * smoothing + 1;
      return sum / weight;
    });
  };
  const columns = (chart) => {
    const own = chart.curves.map((curve) => [curve.x, curve.y]);
    const [x, ...ys] = own.length > 1 ? uPlot.join(own) : own[0];
    return smoothing > 0 ? [x, ...ys, ...ys.map(smoothed)] : [x, ...ys];
  };
  const ends = () => plots.reduce(([low, high], { values }) => [Math.min(low, values[0][0]), Math.max(high, values[0].at(-1))], [Infinity, -Infinity]);
  let range = null;
  const zoomTo = (low, high) => {
    const [first, last] = ends();
    range = low == null || (low <= first && high >= last) ? null : [Math.max(low, first), Math.min(high, last)];
    const [min, max] = range ?? [first, last];
    for (const { plot } of plots) plot.setScale("x", { min, max });
  };
  const onKey = (event) => {
    const [low, high] = range ?? ends();
    const width = high - low;
    const moves = {
      "+": [low + width / 4, high - width / 4], "=": [low + width / 4, high - width / 4],
      "-": [low - width / 2, high + width / 2], "0": [null, null],
      ArrowLeft: [low - width / 4, high - width / 4], ArrowRight: [low + width / 4, high + width / 4],
    };
    if (moves[event.key]) { event.preventDefault(); zoomTo(...moves[event.key]); }
  };
  const options = (chart, width) => {
    const ink = getComputedStyle(root).getPropertyValue("--faint").trim();
    const line = getComputedStyle(root).getPropertyValue("--line").trim();
    const paper = getComputedStyle(root).getPropertyValue("--paper").trim();
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const few = (curve) => curve.x.length <= 40;
    const series = (curve, faint) => ({
      label: data.runs.length > 1 ? data.runs[curve.run].name : chart.name,
      stroke: colorOf(curve.run) + (faint ? "55" : ""), width: faint ? 1 : 2, spanGaps: true,
      points: { show: !faint && few(curve), fill: paper }, value: (_, value) => short(value),
    });
    const raw = chart.curves.map((curve) => series(curve, smoothing > 0));
    const smooth = smoothing > 0 ? chart.curves.map((curve) => series(curve, false)) : [];
    smooth.forEach((each) => { each.label += " (smoothed)"; });
    return {
      width, height: 220, scales: { x: { time: false } }, axes: [{ ...axis }, { ...axis, size: 62, values: (_, ticks) => ticks.map(short) }],
      series: [{ label: "iteration" }, ...raw, ...smooth], cursor: { sync: { key: "footplate" }, drag: { x: true, y: false } },
      hooks: {
        setSelect: [(plot) => { if (plot.select.width > 4) zoomTo(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x")); }],
      },
    };
  };
  const drawCharts = () => {
    for (const entry of plots) {
      entry.plot?.destroy();
      entry.values = columns(entry.chart);
      entry.plot = new uPlot(options(entry.chart, entry.holder.clientWidth), entry.values, entry.holder);
      entry.plot.over.addEventListener("dblclick", () => zoomTo(null, null));
    }
    zoomTo(...(range ?? [null, null]));
  };
  const charts = () => {
    const grid = document.getElementById("charts");
    for (const chart of data.charts) {
      const holder = make("div", { class: "plot" });
      const title = `${chart.name}${chart.mode === "train" ? "" : ` (${chart.mode})`}`;
      const note = chart.curves.some((curve) => curve.thinned) ? [make("p", { class: "note" }, "Thinned: only the minimum and maximum of each interval are drawn.")] : [];
      grid.append(make("div", { class: "chart", tabindex: "0", role: "group", "aria-label": `Curve of ${title}`, onkeydown: onKey }, make("h3", {}, title), holder, ...note));
      plots.push({ chart, holder });
    }
    if (!data.charts.length) nothing("charts", "The run has no scalars.");
    new ResizeObserver(() => plots.forEach(({ plot, holder }) => {
      if (plot && Math.abs(plot.width - holder.clientWidth) > 1) plot.setSize({ width: holder.clientWidth, height: 220 });
    })).observe(grid);
    document.getElementById("zoom-out").addEventListener("click", () => zoomTo(null, null));
    document.getElementById("smoothing").addEventListener("input", (event) => {
      smoothing = Number(event.target.value);
      document.getElementById("smoothing-value").value = event.target.value;
      drawCharts();
    });
  };

  // Images.
  const gallery = () => {
    const place = document.getElementById("gallery");
    for (const { run, name, frames } of data.images) {
      const image = make("img", { src: frames.at(-1).src, alt: `${name} at ${frames.at(-1).step}`, loading: "lazy" });
      const step = make("output", {}, String(frames.at(-1).step));
      const slider = make("input", { type: "range", min: 0, max: frames.length - 1, value: frames.length - 1, step: 1, "aria-label": `Iteration of ${name}` });
      slider.addEventListener("input", () => {
        const frame = frames[Number(slider.value)];
        image.src = frame.src; image.alt = `${name} at ${frame.step}`; step.value = String(frame.step);
      });
      const caption = make("figcaption", {}, make("span", {}, swatch(run), name), slider, make("span", {}, "iteration ", step));
      place.append(make("figure", {}, image, caption));
    }
    if (!data.images.length) nothing("gallery", "The run has no images. With draw=True, the visualization hook draws every interval-th batch of a validation.");
    if (data.imagesLeftOut) nothing("images", `${data.imagesLeftOut} more are only in the run's folder, to limit the size of the page.`);
  };

  // Classes.
  const classTable = (run, number, results) => {
    const table = make("table");
    const rows = results.rows.map((row) => [...row]);
    const body = make("tbody");
    const decimals = results.columns.map((_, column) => { // counts have none, percentages two, fractions three
      const known = rows.map((row) => row[column]).filter((value) => value != null);
      return known.every(Number.isInteger) ? 0 : known.some((value) => value > 1) ? 2 : 3;
    });
    const figure = (value, column) => (value == null ? "–" : value.toFixed(decimals[column]));
    const fill = () => body.replaceChildren(...rows.map(([name, ...values]) => make("tr", {}, make("th", { scope: "row" }, name), ...values.map((value, place) => make("td", { class: "number" }, figure(value, place + 1))))));
    const order = (a, b) => (a == null || b == null ? (a == null) - (b == null) : sign * (typeof a === "string" ? a.localeCompare(b) : a - b));
    let sortedBy = -1, sign = 1;
    const heads = results.columns.map((name, column) => {
      const cell = make("th", { class: column ? "number" : "", scope: "col", "aria-sort": "none" });
      cell.append(make("button", { type: "button", onclick: () => {
        sign = sortedBy === column ? -sign : column ? -1 : 1; sortedBy = column;
        rows.sort((a, b) => order(a[column], b[column]));
        heads.forEach((each) => each.setAttribute("aria-sort", "none"));
        cell.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        fill();
      } }, name));
      return cell;
    });
    fill();
    const of = results.dataset ? ` of ${results.dataset}` : "";
    const at = `${results.mode === "test" ? " in a test" : ""} at iteration ${results.step}`;
    table.append(make("thead", {}, make("tr", {}, ...heads)), body);
    return make("div", { class: "scroll" }, make("h3", {}, swatch(number), `${run.name}: ${results.metric}`, of, at), table);
  };
  const classes = () => {
    const known = data.runs.flatMap((run, number) => run.perClass.map((results) => classTable(run, number, results)));
    document.getElementById("class-tables").append(...known);
    if (!known.length) nothing("class-tables", "The run has no per-class results.");
  };

  // Config, environment, warnings.
  const texts = () => {
    const place = document.getElementById("configs");
    for (const { name, text } of data.differences) place.append(make("h3", {}, `Differences of ${name}`), make("pre", { tabindex: "0" }, text));
    data.runs.forEach((run, number) => {
      const open = data.runs.length === 1 ? { open: "" } : {};
      place.append(make("details", open, make("summary", {}, swatch(number), run.name), make("pre", { tabindex: "0" }, run.config || "The run has no config.")));
    });
    const table = document.getElementById("environments");
    table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), ...data.runs.map((run) => make("th", { scope: "col" }, run.name)))));
    const keys = [...new Set(data.runs.flatMap((run) => Object.keys(run.environment).filter((key) => typeof run.environment[key] === "string")))];
    const body = make("tbody", {}, ...keys.map((key) => make("tr", {}, make("th", { scope: "row" }, key), ...data.runs.map((run) => make("td", {}, run.environment[key] ?? "")))));
    table.append(body);
    const lists = document.getElementById("warning-lists");
    data.runs.forEach((run, number) => {
      if (run.warnings.length) lists.append(make("h3", {}, swatch(number), run.name), make("pre", { tabindex: "0" }, run.warnings.join("\n")));
    });
    if (!lists.children.length) nothing("warning-lists", "None.");
  };

  root.dataset.theme = stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  window.footplate = { plots };
  figures(); charts(); gallery(); classes(); texts();
  setTheme(theme());
})();
