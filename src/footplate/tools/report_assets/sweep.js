// The trials of a sweep: the metric plotted against each parameter, parallel coordinates, and a table.

/** Maps the values of a parameter to [0, 1]: numbers on a logarithmic or linear scale, other values by rank. */
const parameterScale = (key, trials) => {
  const values = trials.map((trial) => trial.values[key]);
  const numbers = values.filter((value) => typeof value === "number");
  if (numbers.length < values.length || !numbers.length) {
    const names = [...new Set(values.map(String))];
    const place = (value) => (names.length > 1 ? names.indexOf(String(value)) / (names.length - 1) : 0.5);
    return { place, marks: names.map((name) => [name, place(name)]) };
  }
  const [low, high] = extent(numbers);
  const log = low > 0 && high / low >= 20;
  const map = log ? Math.log10 : (value) => value;
  const place = (value) => (high > low ? (map(value) - map(low)) / (map(high) - map(low)) : 0.5);
  const few = [...new Set(numbers)].sort((a, b) => a - b);
  const marks = few.length <= 5 ? few : log ? powers(low, high) : ticks(low, high, 4);
  return { place, log, marks: marks.map((mark) => [written(mark, key, true), place(mark)]) };
};
/** Returns the values 1 and 3 times a power of ten between two bounds. If there are many, only the powers of ten. */
const powers = (low, high) => {
  const inside = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    inside.push(...[1, 3].map((factor) => Number((factor * 10 ** power).toPrecision(1))).filter((each) => each >= low && each <= high));
  return inside.length > 6 ? inside.filter((each) => String(each.toExponential()).startsWith("1")) : inside;
};

const keyName = (key) => key.split(".").at(-1);
const fractionDigits = new Map(); // by key, so that all values of a parameter use the same notation; null without exponents
/** Formats the value of a parameter with at most three significant digits. The marks of an axis have no more digits than they need. */
const written = (value, key, isMark = false) => {
  if (typeof value !== "number") return String(value ?? "–");
  const needed = (size) => size.toExponential(2).replace(/0*e.*/, "").length - 2;
  if (!fractionDigits.has(key)) {
    const sizes = data.sweep.trials.map((trial) => Math.abs(trial.values[key])).filter(Boolean);
    fractionDigits.set(key, sizes.some((size) => size < 1e-3 || size >= 1e6) ? Math.max(...sizes.map(needed)) : null);
  }
  const digits = fractionDigits.get(key);
  const text = digits != null && value ? value.toExponential(isMark ? needed(Math.abs(value)) : digits) : Number.isInteger(value) ? value : Number(value.toPrecision(3));
  return String(text).replace("e+", "e").replaceAll("-", MINUS);
};
const valueOf = (trial, key) => written(trial.values[key], key);
const settingsOf = (trial) => data.sweep.keys.map((key) => `${keyName(key)} = ${valueOf(trial, key)}`);
const trialsWithScore = () => data.sweep.trials.filter((trial) => trial.score != null && (trial.state === "complete" || trial.state === "pruned"));
const tipOf = (trial) => [make("strong", {}, `trial ${trial.number}: ${figure(trial.score)}`), ...[...settingsOf(trial), trial.state].map((text) => make("span", {}, text))];
const hoverOf = (trial) => ({ onpointermove: (event) => showTip(event, tipOf(trial)), onpointerleave: () => { find("tip").hidden = true; } });

/** The mark of a trial: a dot, or a small cross if the trial was pruned. */
const mark = (kind, x, y, more = {}) => (kind === "pruned"
  ? draw("path", { class: "trial pruned", d: "M-3.5 -3.5L3.5 3.5M-3.5 3.5L3.5 -3.5", transform: `translate(${x} ${y})`, ...more })
  : draw("circle", { class: `trial ${kind}`, cx: x, cy: y, r: kind === "winner" ? 7 : 5.5, ...more }));

/** Plots the metric against one parameter, in the width of a card that is already in the document. */
const scatter = (card, key, trials, best) => {
  const scale = parameterScale(key, trials);
  const [low, high] = withMargin(...extent(trials.map((trial) => trial.score)));
  const rowTicks = ticks(low, high, 4);
  const width = Math.max(card.clientWidth - 34, 240), height = 244, top = 26, right = width - 6, bottom = height - 26;
  const left = 14 + 7.5 * Math.max(...rowTicks.map((tick) => short(tick).length), 2), inset = 18;
  const toColumn = (share) => left + inset + share * (right - left - 2 * inset);
  const toY = (value) => bottom - ((value / 2 - low / 2) / (high / 2 - low / 2)) * (bottom - top);
  const rows = rowTicks.map((tick) => [draw("line", { x1: left, x2: right, y1: toY(tick), y2: toY(tick) }),
    draw("text", { x: left - 8, y: toY(tick) + 4, "text-anchor": "end" }, short(tick))]);
  const columns = scale.marks.map(([text, share]) => draw("text", { x: toColumn(share), y: bottom + 19, "text-anchor": "middle" }, text));
  const unit = draw("text", { x: 0, y: 12, class: "name" }, data.sweep.metric);
  const dots = [...trials].reverse().map((trial) => mark(trial === best ? "winner" : trial.state, toColumn(scale.place(trial.values[key])), toY(trial.score), hoverOf(trial)));
  card.append(make("h3", {}, keyName(key), make("small", {}, `best ${valueOf(best, key)}${scale.log ? " · logarithmic" : ""}`)),
    draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${data.sweep.metric} against ${key}` }, draw("g", { class: "grid" }, ...rows.flat(), ...columns, unit), ...dots));
};

/** Draws one line per trial through all parameters to the metric. Highlights the best trial and its values. */
const parallel = (card, trials, best) => {
  const { keys, metric } = data.sweep;
  const scales = keys.map((key) => parameterScale(key, trials));
  const [low, high] = extent(trials.map((trial) => trial.score));
  const share = (trial) => (high > low ? (trial.score / 2 - low / 2) / (high / 2 - low / 2) : 0.5);
  const axes = keys.length + 1;
  const width = Math.max(card.clientWidth - 34, 84 * axes), height = 300, top = 46, bottom = height - 14;
  const left = 24 + 8 * Math.max(...trials.map((trial) => valueOf(trial, keys[0]).length));
  const toX = (place) => left + (place / (axes - 1)) * (width - left - 60);
  const isNarrow = width / axes < 140; // adjacent names are on different lines
  const nameOf = (place) => {
    const [x, anchor] = place === 0 && isNarrow ? [0, "start"] : place === axes - 1 && isNarrow ? [width, "end"] : [toX(place), "middle"];
    return draw("text", { x, y: isNarrow && place % 2 ? 32 : 16, "text-anchor": anchor, class: "name" }, place < keys.length ? keyName(keys[place]) : metric);
  };
  const toY = (part) => bottom - part * (bottom - top);
  const pointsOf = (trial) => [...scales.map((scale, place) => [toX(place), toY(scale.place(trial.values[keys[place]]))]), [toX(axes - 1), toY(share(trial))]];
  const quality = (trial) => (headline?.rule === "less" ? 1 - share(trial) : share(trial));
  const lines = [...trials].sort((a, b) => quality(a) - quality(b)).map((trial) =>
    draw("path", { class: `trial-line ${trial === best ? "winner" : trial.state}`, d: `M${pointsOf(trial).map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`, ...hoverOf(trial) }));
  const marks = [...scales.map((scale) => scale.marks), [...new Set([low, high])].map((value) => [figure(value, high), high > low ? Number(value === high) : 0.5])];
  const axis = (place) => draw("g", { class: "grid axis" }, draw("line", { x1: toX(place), x2: toX(place), y1: top, y2: bottom }),
    nameOf(place),
    ...marks[place].filter(([, part]) => Math.abs(toY(part) - pointsOf(best)[place][1]) > 12).map(([text, part]) => draw("text", { x: toX(place) + 9, y: toY(part) + 4 }, text)));
  const values = pointsOf(best).map(([x, y], place) => draw("g", { class: "axis best" }, draw("circle", { cx: x, cy: y, r: 5 }),
    draw("text", { x: x - 10, y: y + 4, "text-anchor": "end" }, place < keys.length ? valueOf(best, keys[place]) : figure(best.score))));
  card.append(make("h3", {}, "All parameters", make("small", {}, "a line per trial, the best one with its values")),
    make("div", { class: "scroll" }, draw("svg", { viewBox: `0 0 ${width} ${height}`, style: `min-width:${width}px`, role: "img", "aria-label": "Parallel coordinates of the trials" },
      ...lines, ...Array.from({ length: axes }, (_, place) => axis(place)), ...values)));
};

const trialTable = () => {
  const rows = data.sweep.trials.map((trial) => [trial.number, trial.score, ...data.sweep.keys.map((key) => {
    const value = trial.values[key];
    return typeof value === "number" || value == null ? value ?? null : String(value);
  }), trial.note ? `${trial.state}: ${trial.note}` : trial.state]);
  const format = (value, column) => (column === 1 && value != null ? figure(value, trialsWithScore()[0]?.score) : written(value, data.sweep.keys[column - 2]));
  const place = (number) => data.runs.findIndex((run) => run.name === `trial ${number}`);
  const name = (number) => make("span", {}, place(number) < 0 ? make("span", { class: "swatch" }) : swatch(place(number)), String(number));
  return make("div", { class: "card scroll tall", tabindex: 0 }, sortable(["trial", data.sweep.metric, ...data.sweep.keys.map(keyName), "state"], rows, { format, bars: new Map([[1, extent(rows.map((row) => row[1]))[1]]]), name }));
};

const sweep = () => {
  if (!data.sweep) return;
  const section = find("sweep"), trials = trialsWithScore(), [best] = trials;
  if (trials.length) {
    const key = (kind, text) => make("li", {}, draw("svg", { class: "key", width: 16, height: 16, "aria-hidden": true }, mark(kind, 8, 8)), text);
    const cards = data.sweep.keys.map(() => make("figure", { class: "card" }));
    section.append(make("ul", { class: "legend" }, key("winner", "best trial"), key("complete", "complete"), trials.some((trial) => trial.state === "pruned") ? key("pruned", "pruned, up to its last validation") : null),
      make("div", { class: "charts trials" }, ...cards));
    cards.forEach((card, place) => scatter(card, data.sweep.keys[place], trials, best));
    if (data.sweep.keys.length > 1) {
      const card = make("figure", { class: "card parallel" });
      section.append(card);
      parallel(card, trials, best);
    }
  }
  section.append(trialTable());
};
