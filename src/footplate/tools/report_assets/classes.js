// Tables of per-class results in the best and the last validation.

/** The value whose bar fills a cell: 1 or 100 for fractions and percentages, otherwise the largest value. */
const fullBar = (name, numbers) => {
  const largest = extent(numbers)[1];
  return !PERCENTAGE.test(name) || largest > 100 ? largest : largest > 1 ? 100 : 1;
};

/**
 * A table that can be sorted by clicking a header. `rows` are arrays, `bars` maps the columns with bars to the value of a full bar, `differences` is a
 * column with bars to both sides.
 */
const sortable = (columns, rows, { format, bars, differences = -1 }) => {
  const body = make("tbody");
  const sorted = [...rows];
  const widest = Math.max(...rows.map((row) => Math.abs(row[differences] ?? 0)));
  const cell = (value, column) => {
    const drawn = column === differences ? value : bars.has(column) && value > 0;
    const share = drawn ? `--share:${((100 * Math.abs(value)) / (bars.get(column) ?? widest)).toFixed(1)}%` : null;
    const kind = typeof value === "string" ? "" : bars.has(column) && value === 0 ? "number zero" : !share ? "number" : column !== differences ? "number bar" : value > 0 ? "number bar gain" : "number bar loss";
    return make("td", { class: kind, style: share }, format(value, column));
  };
  const show = () => body.replaceChildren(...sorted.map(([first, ...values]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...values.map((value, place) => cell(value, place + 1)))));
  let by = -1, sign = 1;
  const order = (a, b) => (a == null || b == null ? (a == null) - (b == null) : sign * (typeof a === "string" ? a.localeCompare(b) : a - b));
  const heads = columns.map((title, column) => {
    const texts = !column || rows.some((row) => typeof row[column] === "string");
    const isBar = bars.has(column) || column === differences;
    const head = make("th", { class: `${texts ? "" : "number"}${isBar ? " bars" : ""}`, style: isBar ? `--bars:${bars.size + (differences > 0)}` : null, scope: "col", "aria-sort": "none" });
    head.append(make("button", { type: "button", onclick: () => {
      sign = by === column ? -sign : column ? -1 : 1; by = column;
      sorted.sort((a, b) => order(a[column], b[column]));
      heads.forEach((each) => each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      show();
    } }, title));
    return head;
  });
  show();
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
};

/** The number of decimals for a column: none for counts, two for percentages, three for fractions. */
const decimalsOf = (numbers) => {
  const known = numbers.filter((each) => each != null);
  return known.every(Number.isInteger) ? 0 : known.some((each) => Math.abs(each) > 1) ? 2 : 3;
};
const fixed = (value, digits) => (value == null ? "–" : value.toFixed(digits).replace("-", MINUS));

/** Formats columns of numbers, each column with its own decimals. */
const columnFormat = (rows) => {
  const digits = new Map();
  return (value, column) => {
    if (value == null) return "–";
    if (typeof value === "string") return value;
    if (!digits.has(column)) digits.set(column, decimalsOf(rows.map((row) => row[column])));
    return fixed(value, digits.get(column));
  };
};

/** Checks whether results are a confusion matrix, where zeros are not bad. */
const isMatrix = ({ columns, classes }) => String(columns) === String(classes);

const NO_OBJECT = "(no object)"; // the row of false detections and the column of undetected objects
const MANY_CLASSES = 25; // a matrix of more classes has no numbers in its cells
const MOST_CONFUSED = 5;

/** The confusion matrix of one run, shaded by the share of each true class, and the most confused classes. */
const matrixOf = ({ classes, values }, place) => {
  const cells = classes.map((truth, row) => {
    const counts = values.map((column) => column[place][row] ?? 0), total = counts.reduce((sum, count) => sum + count, 0);
    return counts.map((count, column) => ({ truth, predicted: classes[column], count, share: total ? count / total : 0, isRight: row === column }));
  });
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
  const cell = ({ truth, predicted, count, share, isRight }) => make("td", {
    class: share > 0.75 ? "strong" : null, style: `--c:var(${isRight ? "--run-0" : "--run-1"});--share:${(100 * share).toFixed(1)}%`,
    title: `true: ${truth}, predicted: ${predicted}: ${whole(count)} (${percent(share)})`,
  }, classes.length > MANY_CLASSES || share < 0.005 ? "" : String(Math.round(100 * share)));
  const confused = cells.flat().filter(({ truth, isRight, share }) => !isRight && truth !== NO_OBJECT && share >= 0.005).sort((a, b) => b.share - a.share).slice(0, MOST_CONFUSED);
  const texts = confused.map(({ truth, predicted, share }) => (predicted === NO_OBJECT ? `${truth} undetected` : `${truth} as ${predicted}`) + ` (${percent(share)})`);
  return {
    table: make("table", { class: classes.length > MANY_CLASSES ? "matrix dense" : "matrix" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "true ↓ predicted →"), ...classes.map((name) => make("th", { scope: "col" }, make("span", {}, name))))),
      make("tbody", {}, ...cells.map((row, number) => make("tr", {}, make("th", { scope: "row" }, classes[number]), ...row.map(cell))))),
    text: `Percent of each row. ${texts.length ? `Most confused: ${texts.join(", ")}.` : ""}`,
  };
};

/** The table of one run, with all columns. Equal columns, such as Dice and Fscore, are merged. */
const tableOfRun = (results, place) => {
  const columns = [...Map.groupBy(results.columns.keys(), (column) => JSON.stringify(results.values[column][place])).values()];
  const values = columns.map(([column]) => valuesOf(results, column, place));
  const rows = results.classes.map((name, number) => [name, ...values.map((each) => each[number])]);
  const shown = data.classes.length === 1 ? columns : columns.slice(0, 1); // if there are several tables, they are narrow
  const bars = new Map(shown.map(([column], number) => [number + 1, fullBar(results.columns[column], results.values[column][place])]));
  return sortable(["class", ...columns.map((equal) => equal.map((column) => results.columns[column]).join(" = "))], rows, { format: columnFormat(rows), bars });
};

/** The results of each variant that has a table, the best variant first. */
const variantsIn = (table) => data.variants
  .map(({ name, counted }) => ({ name, seeds: table.runs.filter(({ run }) => counted.includes(run)) })).filter(({ seeds }) => seeds.length);

/** The table of several runs, with one column per variant that contains the means over the seeds. For two variants, adds their difference. */
const tableOfRuns = (table, column, where) => {
  const variants = variantsIn(table);
  const values = variants.map(({ seeds }) => {
    const known = seeds.flatMap((results) => valuesOf(results, column, results[where] ?? results.last).map((value, number) => [results.classes[number], value])).filter(([, value]) => value != null);
    return new Map([...Map.groupBy(known, ([name]) => name)].map(([name, pairs]) => [name, pairs.reduce((sum, [, value]) => sum + value, 0) / pairs.length]));
  });
  const names = [...new Set(variants.flatMap(({ seeds }) => seeds.flatMap((results) => results.classes)))];
  const differ = variants.length === 2;
  const numbers = values.flatMap((each) => [...each.values()]);
  const digits = decimalsOf(numbers), full = fullBar(table.runs[0].columns[column], numbers);
  const rounded = (value) => Number(value.toFixed(digits)); // so that a difference matches the numbers next to it
  const rows = names.map((name) => {
    const own = values.map((each) => each.get(name));
    return [name, ...own, ...(differ ? [own[0] == null || own[1] == null ? null : rounded(rounded(own[0]) - rounded(own[1]))] : [])];
  });
  const heads = variants.map(({ name }) => name);
  const format = (value, column) => (typeof value === "string" ? value : (differ && column === 3 && value > 0 ? "+" : "") + fixed(value, digits));
  return sortable(["class", ...heads, ...(differ ? [`${heads[0]} ${MINUS} ${heads[1]}`] : [])], rows, { format, bars: new Map(variants.map((_, number) => [number + 1, full])), differences: differ ? 3 : -1 });
};

/** The values of a column at a step, without those of classes that have no samples, which say nothing about the model. */
const valuesOf = ({ columns, values }, column, place) => {
  const samples = values[columns.indexOf("support")]?.[place];
  return values[column]?.[place].map((value, row) => (samples?.[row] === 0 && columns[column] !== "support" ? null : value)) ?? [];
};

/** Counts the classes at zero in a run's best (or else last) validation, and all classes. */
const zerosOf = (results, where = results.best ?? results.last) => ({ zeros: isMatrix(results) ? 0 : valuesOf(results, 0, where).filter((value) => value === 0).length, count: results.classes.length });
/** The table of a run with the most classes at zero, or no classes. */
const mostZeros = (run) => data.classes.flatMap((table) => table.runs.filter((results) => results.run === run && !isMatrix(results))).map((results) => zerosOf(results))
  .reduce((most, each) => (each.zeros >= most.zeros ? each : most), { zeros: 0, count: 0 });

const classCard = (table) => {
  const [first] = table.runs;
  const state = { where: first.best == null ? "last" : "best", column: 0, run: 0 };
  const holder = make("div", { class: "scroll tall", tabindex: 0 });
  const when = make("span", { class: "quiet" }), below = note("");
  const show = () => {
    const shown = isMatrix(first) ? [table.runs[state.run]] : table.runs;
    const at = shown.map((results) => results.steps[results[state.where] ?? results.last]);
    const { zeros, count } = several ? { zeros: 0 } : zerosOf(first, first[state.where] ?? first.last);
    when.textContent = new Set(at).size > 1 ? `at the ${state.where} iteration of each run` : `at iteration ${whole(at[0])}`;
    if (zeros) when.append(make("b", { class: "bad" }, `, ${zeros} of ${count} classes at zero`));
    const matrix = isMatrix(first) ? matrixOf(shown[0], shown[0][state.where] ?? shown[0].last) : null;
    below.textContent = matrix ? matrix.text : "";
    holder.replaceChildren(matrix ? matrix.table : several ? tableOfRuns(table, state.column, state.where) : tableOfRun(first, first[state.where] ?? first.last));
  };
  const controls = [];
  if (table.runs.some((results) => results.best != null && results.best !== results.last))
    controls.push(choice(["Best", "Last"], 0, (place) => { state.where = place ? "last" : "best"; show(); }, "Validation"));
  const equal = Map.groupBy(first.columns.keys(), (column) => JSON.stringify(table.runs.map((results) => results.values[column])));
  const tabs = [...equal.values()];
  if (isMatrix(first) && table.runs.length > 1) controls.push(choice(table.runs.map(({ run }) => data.runs[run].name), 0, (place) => { state.run = place; show(); }, "Run"));
  else if (several && tabs.length > 1) controls.push(choice(tabs.map((same) => same.map((column) => first.columns[column]).join(" = ")), 0, (place) => { [state.column] = tabs[place]; show(); }, "Column"));
  show();
  const metric = table.metric.replace(/^confusion_matrix/, "Confusion matrix");
  const name = table.set ? `${table.set}: ${metric}` : metric;
  return make("div", { class: "card" }, make("div", { class: "head" }, make("h3", {}, name, table.mode === "test" ? " (test)" : "", " ", when), ...controls), holder, below);
};

const classes = () => {
  if (data.classes.length) find("classes").append(make("div", { class: "tables" }, ...data.classes.map(classCard)));
};

const MOST_SIZES = 12; // more sizes of images are grouped

/** The classes of the validation data: the sums of the rows of a confusion matrix that counts the same unit. */
const validatedLabels = (run) => {
  const found = data.classes.filter(({ mode, set }) => mode === "val" && !set).flatMap(({ runs }) => runs).find((results) => results.run === run && isMatrix(results));
  return new Map(found ? found.classes.map((name, row) => [name, found.values.reduce((sum, column) => sum + (column[found.last][row] ?? 0), 0)]).filter(([name]) => name !== NO_OBJECT) : []);
};

const labelTable = ({ unit, labels }, run) => {
  const validated = validatedLabels(run);
  const shareOf = (amounts) => { const total = amounts.reduce((sum, amount) => sum + amount, 0) || 1; return (amount) => (amount == null ? null : (100 * amount) / total); };
  const trained = shareOf(labels.map(([, amount]) => amount)), ofValidated = shareOf([...validated.values()]);
  const rows = labels.map(([name, amount]) => [name, amount, trained(amount), ...(validated.size ? [ofValidated(validated.get(name))] : [])]);
  const full = extent(rows.flatMap((row) => row.slice(2)).filter((share) => share != null))[1] || 1;
  return sortable(["class", `training ${unit}`, "training %", ...(validated.size ? ["validation %"] : [])], rows,
    { format: (value, column) => (typeof value === "string" ? value : column === 1 ? whole(value) : fixed(value, 1)), bars: new Map([[2, full], [3, full]]) });
};

/** The image sizes or, if there are many, the numbers of images by width and height. */
const sizeTable = ({ sizes }) => {
  const format = (value) => (typeof value === "string" ? value : whole(value));
  if (sizes.length <= MOST_SIZES) {
    const rows = [...sizes].sort((a, b) => b[2] - a[2]).map(([width, height, number]) => [`${width} × ${height}`, number]);
    return sortable(["width × height", "images"], rows, { format, bars: new Map([[1, extent(rows.map(([, number]) => number))[1]]]) });
  }
  const [low, high] = extent(sizes.flatMap(([width, height]) => [width, height])), step = Math.ceil((high - low + 1) / MOST_SIZES);
  const rows = Array.from({ length: Math.ceil((high - low + 1) / step) }, (_, bin) => {
    const from = low + bin * step, count = (side) => sizes.filter((size) => size[side] >= from && size[side] < from + step).reduce((sum, size) => sum + size[2], 0);
    return [`${from} to ${from + step - 1}`, count(0), count(1)];
  });
  const full = extent(rows.flatMap((row) => row.slice(1)))[1];
  return sortable(["pixels", "images by width", "images by height"], rows, { format, bars: new Map([[1, full], [2, full]]) });
};

/** The labels and image sizes that a run has counted in its first training samples. Runs with the same data share a table. */
const trainingData = () => {
  const counted = data.runs.flatMap((run, place) => (run.data?.samples ? [{ ...run.data, place, name: run.name }] : []));
  const distinct = [...Map.groupBy(counted, ({ samples, unit, labels, sizes }) => JSON.stringify([samples, unit, labels, sizes])).values()].map(([first]) => first);
  if (!distinct.length) return;
  const holder = make("div");
  const card = (title, table) => make("div", { class: "card" }, make("div", { class: "head" }, make("h3", {}, title)), make("div", { class: "scroll tall", tabindex: 0 }, table));
  const show = (chosen) => holder.replaceChildren(
    note(`The first ${whole(chosen.samples)} training samples. Labels are counted after augmentation, sizes before it.`),
    make("div", { class: "tables" }, ...[card("Labels", labelTable(chosen, chosen.place)), chosen.sizes.length ? card("Image sizes", sizeTable(chosen)) : ""].filter(Boolean)));
  show(distinct[0]);
  find("data-shown").append(...(distinct.length > 1 ? [choice(distinct.map(({ name }) => name), 0, (place) => show(distinct[place]), "Run")] : []), holder);
};
