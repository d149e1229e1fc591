// Images, and one chart per metric.

const byRunName = (run) => (several ? make("span", { class: "who" }, swatch(run), data.runs[run].name) : null);

const MOST_PICTURED = 2; // variants whose images are shown at first, of one run each

/** Returns the images that each run drew at a step, or at the latest step before it, with their frames. Kinds of images, such as val and test, may be drawn at different steps. */
const imagesAt = (all, step) => [...Map.groupBy(all, ({ run, kind }) => `${run} ${kind}`).values()].flatMap((images) => {
  const steps = images.flatMap(({ frames }) => frames.map((frame) => frame.step)).sort((a, b) => a - b);
  const at = steps.findLast((each) => each <= step) ?? steps[0];
  return images.map((image) => ({ ...image, frame: image.frames.findLast((frame) => frame.step === at) })).filter(({ frame }) => frame);
});

const FEW = 20; // curves with fewer points are not smoothed
const FEW_STEPS = 5; // images of more steps have a slider
const MOST_CARDS = 4; // that are shown at first
const LEAST_SIDE = 320; // pixels; smaller images were not scaled down for the page

/** One panel, which is a button if `open` is given. */
const panelOf = (name, step, open) => ({ caption, src }) => {
  const alt = `${name} at ${step}${caption ? `: ${caption}` : ""}`;
  const image = make("img", { src: data.sources[src], alt, loading: "lazy", decoding: "async", onload: () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) < LEAST_SIDE) });
  return make("figure", { class: "panel" }, caption ? make("figcaption", {}, caption) : null,
    open ? make("button", { type: "button", class: "enlarge", "aria-label": `Enlarge ${alt}`, onclick: open }, image) : image);
};

/**
 * The panels of one image. Panels that are the same in all runs are shown once, and other panels for each run.
 *
 * Next to two runs, the shared panels stand in a column of the same height; above more runs, in a row.
 */
const panelsOf = (images, step, open = null) => {
  const frames = images.map(({ frame }) => frame);
  const isShared = ({ src, caption }) => frames.length > 1 && frames.every(({ panels }) => panels.some((each) => each.src === src && each.caption === caption));
  const row = (panels, label, at, columns = panels.length, share = columns) => make("div", { style: `flex-grow:${share}` }, make("p", { class: "quiet" }, ...label),
    make("div", { class: "panels", style: `--columns:${columns};--panels:${panels.length}` }, ...panels.map(panelOf(images[0].name, at, open))));
  const shared = frames[0].panels.filter(isShared);
  const own = frames.map((frame, place) => row(frame.panels.filter((panel) => !isShared(panel)), [byRunName(images[place].run), several ? " " : null, `iteration ${whole(frame.step)}`].filter(Boolean), frame.step));
  const most = Math.max(...frames.map((frame) => frame.panels.length)) - shared.length;
  const legend = new Map(frames.flatMap((frame) => frame.legend.map(({ label, color }) => [label, color])));
  const isBeside = frames.length === 2;
  const columns = isBeside ? Math.ceil(shared.length / 2) : shared.length;
  const runColumns = isBeside ? 1 : frames.length % 2 === 0 ? 2 : most === 1 ? frames.length : 1;
  return [make("div", { class: isBeside ? "views" : "views above" }, shared.length ? row(shared, ["the same in all runs"], step, columns, shared.length === 1 ? 2 : columns) : null,
    most ? make("div", { class: "own", style: `flex-grow:${most};--columns:${runColumns};--narrow:${most > 1 ? 1 : 2}` }, ...own) : null),
    legend.size ? make("ul", { class: "legend" }, ...[...legend].map(([label, color]) => make("li", {}, make("span", { class: "swatch square", style: `background:${color}` }), label))) : null];
};

/** The cards of a gallery. A button shows those after the first ones; `all` remembers it when the iteration changes. */
const cardsOf = (cards, step, all, attributes) => {
  const element = make("div", attributes);
  const card = ([name, images], place) => make("figure", { class: "card picture" }, make("figcaption", {}, name), make("div", {}, ...panelsOf(images, step, () => enlarge(cards, place, step))));
  const rest = cards.length - MOST_CARDS;
  element.append(...cards.slice(0, rest > 0 && !all.shown ? MOST_CARDS : cards.length).map(card));
  if (rest > 0 && !all.shown) element.append(make("button", { type: "button", class: "more", onclick: ({ target }) => {
    all.shown = true;
    target.replaceWith(...cards.slice(MOST_CARDS).map((each, place) => card(each, place + MOST_CARDS)));
  } }, `${rest} more`));
  return element;
};

/** Shows the panels of a card at full width in a dialog. The arrows lead to the other cards. */
const enlarge = (cards, place, step) => {
  const title = make("h3"), holder = make("div");
  const show = (next) => {
    place = (next + cards.length) % cards.length;
    const [name, images] = cards[place];
    title.textContent = name;
    const paths = [...new Set(images.map(({ frame }) => frame.path).filter(Boolean))];
    holder.replaceChildren(...paths.map((path) => make("p", { class: "path" }, path)), ...panelsOf(images, step).filter(Boolean));
  };
  const button = (text, label, onclick) => make("button", { type: "button", "aria-label": label, onclick }, text);
  const arrows = [button("←", "Previous image", () => show(place - 1)), button("→", "Next image", () => show(place + 1))];
  const dialog = make("dialog", {
    class: "picture", "aria-label": "Enlarged image", onclose: () => dialog.remove(), onclick: ({ target }) => { if (target === dialog) dialog.close(); },
    onkeydown: ({ key }) => { if (/^Arrow(Left|Right)$/.test(key)) show(place + (key === "ArrowLeft" ? -1 : 1)); },
  }, make("div", { class: "head" }, title, ...(cards.length > 1 ? arrows : []), button("✕", "Close", () => dialog.close())), holder);
  show(place);
  document.body.append(dialog);
  dialog.showModal();
};

/** The images of some runs, with one slider or, for a few steps, buttons for all of them. */
const gallery = (images) => {
  const steps = [...new Set(images.flatMap(({ frames }) => frames.map((frame) => frame.step)))].sort((a, b) => a - b);
  const output = make("output"), holder = make("div"), all = { shown: false };
  const show = (place) => {
    const step = steps[place];
    output.value = `iteration ${whole(step)}`;
    holder.replaceChildren(cardsOf([...Map.groupBy(imagesAt(images, step), (image) => image.name)], step, all, { id: "gallery" }));
  };
  const slider = make("input", { type: "range", min: 0, max: steps.length - 1, value: steps.length - 1, "aria-label": "Iteration of the images", oninput: () => show(Number(slider.value)) });
  show(steps.length - 1);
  const buttons = () => choice(steps.map((step) => `iteration ${whole(step)}`), steps.length - 1, show, "Iteration of the images");
  return [steps.length < 2 ? "" : make("div", { class: "controls" }, ...(steps.length > FEW_STEPS ? [slider, output] : [buttons()])), holder];
};

/** The images with the largest errors of the last validation or test of one run, the worst first. */
const worst = () => {
  const all = data.images.filter(({ kind }) => kind.startsWith("worst_"));
  const runs = [...new Set(all.map(({ run }) => run))].sort((a, b) => a - b);
  if (!runs.length) return;
  const holder = make("div");
  const show = (run) => holder.replaceChildren(...[...Map.groupBy(all.filter((image) => image.run === run), ({ kind }) => kind)].flatMap(([kind, images]) => {
    const [, mode, ...set] = kind.split("_"), { step } = images[0].frames.at(-1);
    const cards = images.map((image, place) => [`${place + 1}. ${image.frames.at(-1).title || image.name}`, [{ ...image, frame: image.frames.at(-1) }]]);
    return [
      make("h3", {}, [mode === "test" ? "Test" : "Validation", set.join("_")].filter(Boolean).join(": "), " ", make("small", {}, `at iteration ${whole(step)}`)),
      cardsOf(cards, step, {}, { class: "gallery" }),
    ];
  }));
  show(runs[0]);
  find("worst").append(...(runs.length > 1 ? [choice(runs.map((run) => data.runs[run].name), 0, (place) => show(runs[place]), "Run")] : []), holder);
};

/** The images. If there are many runs, only those of the first run of the best variants are shown at first. */
const pictures = () => {
  const section = find("pictures");
  const all = data.images.filter(({ kind }) => !kind.startsWith("worst_"));
  if (!all.length) return;
  const sorted = all.sort((a, b) => a.run - b.run);
  const first = data.variants.slice(0, MOST_PICTURED).map(({ runs }) => runs[0]);
  const best = sorted.filter((image) => first.includes(image.run));
  const holder = make("div", {}, ...gallery(best));
  if (best.length < sorted.length)
    section.append(choice([first.map((run) => data.runs[run].name).join(", "), `All ${data.runs.length} runs`], 0, (place) => holder.replaceChildren(...gallery(place ? sorted : best)), "Runs"));
  section.append(holder);
  if (data.imagesLeftOut) section.append(note(`To limit its size, the page omits ${whole(data.imagesLeftOut)} image${data.imagesLeftOut > 1 ? "s" : ""} from the run folders.`));
};

/** Returns the table and the column with the per-class results of a metric, for example `IoU` for `mIoU`. */
const classesOf = (chart) => {
  const name = chart.name.split("/").at(-1);
  for (const table of data.classes) {
    const column = table.runs[0].columns.findIndex((title) => name === title || name === `m${title}`);
    if (table.mode === chart.mode && ["", chart.set].includes(table.set) && column >= 0) return { table, column };
  }
  return null;
};

/** Returns the curves of all classes in one run, as thin lines. */
const classCurves = (chart, run) => {
  const { table, column } = classesOf(chart);
  const results = table.runs.find((each) => each.run === run);
  if (!results || results.columns[column] == null) return [];
  const last = valuesOf(results, column, results.last);
  const lowest = [...last.keys()].filter((place) => last[place] != null).sort((a, b) => last[a] - last[b]).slice(0, 3);
  return results.classes.map((name, place) => ({
    x: results.steps, y: results.steps.map((_, step) => valuesOf(results, column, step)[place]),
    name, key: name, run, mode: "val", thin: true, color: last[place] === 0 ? "var(--bad)" : colorOf(run), lastLabel: lowest.includes(place) ? name : "",
  }));
};

const UNITS = { time: "s per iteration", data_time: "s per iteration", memory: "MiB" };

const chartOf = (chart, { unit, ...options } = {}) => {
  const mode = chart.mode === "train" ? "training" : chart.mode === "test" ? "test" : "";
  const subtitle = [options.height ? "" : mode, unit].filter(Boolean).join(" ");
  return new LineChart({ title: chart.name, subtitle, curves: styled(chart), legend: false, span: leastSpan(chart), ...options });
};

/** A chart with a button that opens a wider chart with the classes of one run. */
const metricChart = (chart, options = {}) => {
  const plain = chartOf(chart, options);
  if (!classesOf(chart)) return plain.element;
  const { table, column } = classesOf(chart);
  const missing = several ? 0 : table.runs[0].values[column].at(-1).filter((value) => value == null).length;
  if (missing) plain.element.append(note(`The last value leaves out classes without a result (${missing} of ${table.runs[0].classes.length}).`));
  const runs = table.runs.filter(({ run }) => classCurves(chart, run).length).map(({ run }) => run);
  if (!runs.length) return plain.element;
  const count = classCurves(chart, runs[0]).length;
  let shown = plain;
  const replace = (next) => {
    charts.splice(charts.indexOf(shown), 1);
    shown.element.replaceWith(next.element);
    shown = next;
    if (!charts.includes(next)) charts.push(next);
  };
  const close = () => make("button", { type: "button", onclick: () => replace(plain) }, "Mean only");
  const expand = (run) => {
    const extra = several ? [choice(runs.map((each) => data.runs[each].name), runs.indexOf(run), (place) => expand(runs[place]), "Run")] : [];
    const mean = styled({ ...chart, curves: chart.curves.filter((curve) => variantOf[curve.run] === variantOf[run]) });
    const next = chartOf(chart, { curves: [...classCurves(chart, run), ...mean], height: 380, extra: [...extra, close()] });
    next.element.classList.add("wide");
    next.element.append(note("Thin lines are classes; move the pointer over a line to see its name."));
    replace(next);
  };
  plain.element.querySelector(".head").append(make("button", { type: "button", class: "classes-of", onclick: () => expand(runs[0]) }, `${count} classes`));
  return plain.element;
};

/** The lengths of the training curves that can be smoothed. */
const trainLengths = () => [data.charts.loss, ...data.charts.metrics, ...data.charts.details].filter(Boolean)
  .flatMap(({ curves }) => curves.filter(({ mode, role }) => mode === "train" && !role).map(({ x }) => x.length));

const chartControls = () => {
  const value = make("output", {}, String(view.smoothing));
  const slider = make("input", { id: "smoothing", type: "range", min: 0, max: 0.99, step: 0.01, value: view.smoothing, oninput: () => {
    view.smoothing = Number(slider.value); value.value = slider.value;
    renderAll();
  } });
  const smoothing = Math.max(0, ...trainLengths()) > FEW ? [make("label", {}, "Smoothing ", slider), value] : [];
  const axis = data.runs.every(({ clock }) => clock.length) ? choice(["Iterations", "Training time"], 0, (place) => setView({ byTime: place > 0 }), "Horizontal axis") : null;
  return make("div", { class: "controls" }, axis, choice(["Linear", "Log"], 0, (place) => setView({ log: place > 0 }), "Vertical axis"), ...smoothing,
    make("button", { id: "zoom-out", type: "button", onclick: () => zoomTo(null, null) }, "Whole run"),
    make("details", { class: "help" }, make("summary", {}, "How to zoom"),
      make("p", {}, "Drag over a chart to zoom; all charts follow. Double-click for the whole run."),
      make("p", {}, `Keyboard: + and ${MINUS} zoom, arrows move, 0 shows all.`)));
};

/** Groups charts by validation set. If there is only one set, all charts are in one group, with validation first. */
const groupsOf = (shown) => {
  const validations = shown.filter((chart) => chart.mode !== "train");
  const ordered = [...validations, ...shown.filter((chart) => chart.mode === "train")];
  const groups = Map.groupBy(ordered, (chart) => (chart.mode === "train" ? "Training" : chart.set || (chart.mode === "test" ? "Test" : "Validation")));
  if (new Set(validations.map((chart) => `${chart.mode} ${chart.set}`)).size > 1) return groups;
  return new Map([["", ordered]]);
};

const metrics = () => {
  const section = find("metrics");
  if (data.charts.metrics.every(isOnFirstScreen)) return;
  const legend = data.variants.length > 1 ? legendOf(data.variants.map(({ name, runs }) => ({ key: name, color: colorOf(runs[0]) }))) : null;
  if (legend) section.append(legend);
  const groups = groupsOf(data.charts.metrics);
  for (const [name, all] of groups) {
    const group = all.filter((chart) => !isOnFirstScreen(chart));
    if (!group.length) continue;
    const set = name && group[0].mode !== "train" && group[0].set;
    if (name) section.append(make("h3", { class: "set" }, set ? make("span", {}, `${group[0].mode === "test" ? "Test" : "Validation"}: `, make("b", {}, name)) : name));
    section.append(make("div", { class: group.length % 4 ? "charts" : "charts fours" }, ...group.map(metricChart)));
  }
};

/** The charts that are needed only for troubleshooting. They are drawn when the section is opened. */
const details = () => {
  const section = find("details"), group = data.charts.details;
  if (!group.length) return;
  const names = group.map((chart) => chart.name);
  const grid = make("div", { class: group.length % 4 ? "charts" : "charts fours" }, ...group.map((chart) => chartOf(chart, { height: 150, unit: UNITS[chart.name.split("/").at(-1)] }).element));
  section.append(make("details", {}, make("summary", {}, `${names.length} charts: `, names.join(", ")), grid));
};
