// Trials of a sweep: the metric against each parameter, parallel coordinates, and a table.

/** Maps the values of a parameter to 0..1: by magnitude, by size, or by rank for values that are not numbers. */
const parameterScale = (values) => {
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
  return { place, log, marks: marks.map((mark) => [short(mark), place(mark)]) };
};
/** Powers of ten and three times these within two bounds; every power only if there are many. */
const powers = (low, high) => {
  const inside = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    inside.push(...[1, 3].map((factor) => Number((factor * 10 ** power).toPrecision(1))).filter((each) => each >= low && each <= high));
  return inside.length > 6 ? inside.filter((each) => String(each.toExponential()).startsWith("1")) : inside;
};

const settingsOf = (trial) => data.sweep.keys.map((key) => `${keyName(key)}=${typeof trial.values[key] === "number" ? short(trial.values[key]) : trial.values[key]}`).join(", ");
const keyName = (key) => key.split(".").at(-1);
const done = () => data.sweep.trials.filter((trial) => trial.score != null && (trial.state === "complete" || trial.state === "pruned"));
const tipOf = (trial) => [make("strong", {}, `trial ${trial.number}: ${figure(trial.score)}`), make("span", {}, settingsOf(trial)), make("span", {}, trial.state)];
const hoverOf = (trial) => ({ onpointermove: (event) => showTip(event, tipOf(trial)), onpointerleave: () => { find("tip").hidden = true; } });

const scoreRange = (trials) => withMargin(...extent(trials.map((trial) => trial.score)));

/** The metric against one parameter. */
const scatter = (key, trials, best) => {
  const scale = parameterScale(trials.map((trial) => trial.values[key]));
  const [low, high] = scoreRange(trials);
  const width = 360, height = 210, left = 46, right = width - 14, bottom = height - 34;
  const toX = (value) => left + 14 + scale.place(value) * (right - left - 28);
  const toY = (value) => bottom - ((value / 2 - low / 2) / (high / 2 - low / 2)) * (bottom - 10);
  const rows = ticks(low, high, 4).map((tick) => [draw("line", { x1: left, x2: right, y1: toY(tick), y2: toY(tick) }),
    draw("text", { x: left - 7, y: toY(tick) + 4, "text-anchor": "end" }, short(tick))]);
  const columns = scale.marks.map(([text, share]) => draw("text", { x: left + 14 + share * (right - left - 28), y: bottom + 17, "text-anchor": "middle" }, text));
  const dots = [...trials].reverse().map((trial) => draw("circle", { cx: toX(trial.values[key]), cy: toY(trial.score), r: trial === best ? 6 : 4,
    class: `trial ${trial.state}${trial === best ? " winner" : ""}`, ...hoverOf(trial) }));
  return make("figure", { class: "card" }, make("h3", {}, keyName(key), make("small", {}, `${key}${scale.log ? ", logarithmic" : ""}`)),
    draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${data.sweep.metric} against ${key}` }, draw("g", { class: "grid" }, ...rows.flat(), ...columns), ...dots));
};

/** A line per trial through all parameters to the metric. Better trials have more color. */
const parallel = (trials, best) => {
  const width = 1120, height = 280, top = 34, bottom = height - 14;
  const scales = data.sweep.keys.map((key) => parameterScale(trials.map((trial) => trial.values[key])));
  const [low, high] = extent(trials.map((trial) => trial.score));
  const share = (trial) => (high > low ? (trial.score / 2 - low / 2) / (high / 2 - low / 2) : 0.5);
  const axes = scales.length + 1;
  const toX = (place) => 60 + (place / (axes - 1 || 1)) * (width - 150);
  const toY = (part) => bottom - part * (bottom - top);
  const quality = (trial) => (headline?.small ? 1 - share(trial) : share(trial));
  const lines = [...trials].sort((a, b) => quality(a) - quality(b)).map((trial) => {
    const points = [...scales.map((scale, place) => [toX(place), toY(scale.place(trial.values[data.sweep.keys[place]]))]), [toX(axes - 1), toY(share(trial))]];
    return draw("path", { class: `trial-line${trial === best ? " winner" : ""}`, d: `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`,
      style: `opacity:${(0.18 + 0.6 * quality(trial) ** 2).toFixed(2)}`, ...hoverOf(trial) });
  });
  const marks = [...scales.map((scale) => scale.marks), [low, high].map((value) => [short(value), value === low ? 0 : 1])];
  const axis = (place) => draw("g", { class: "grid axis" }, draw("line", { x1: toX(place), x2: toX(place), y1: top, y2: bottom }),
    draw("text", { x: toX(place), y: 16, "text-anchor": place === axes - 1 ? "middle" : place ? "middle" : "start", class: "name" }, place < axes - 1 ? keyName(data.sweep.keys[place]) : data.sweep.metric),
    ...marks[place].map(([text, part]) => draw("text", { x: toX(place) + 8, y: toY(part) + 4 }, text)));
  return make("figure", { class: "card parallel" }, make("h3", {}, "All parameters", make("small", {}, "a line per trial; the best one is highlighted")),
    make("div", { class: "scroll" }, draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Parallel coordinates of the trials" }, ...lines, ...Array.from({ length: axes }, (_, place) => axis(place)))));
};

const trialTable = () => {
  const rows = data.sweep.trials.map((trial) => [String(trial.number), trial.score, ...data.sweep.keys.map((key) => {
    const value = trial.values[key];
    return typeof value === "number" || value == null ? value ?? null : String(value);
  }), trial.note ? `${trial.state}: ${trial.note}` : trial.state]);
  const format = (value) => (typeof value === "number" ? short(value) : value ?? "–");
  return make("div", { class: "card scroll tall", tabindex: 0 }, sortable(["trial", data.sweep.metric, ...data.sweep.keys.map(keyName), "state"], rows, { format, bars: [1] }));
};

const sweep = () => {
  if (!data.sweep) return;
  const section = find("sweep"), trials = done(), [best] = trials;
  section.hidden = false;
  if (trials.length) {
    section.append(make("div", { class: "charts" }, ...data.sweep.keys.map((key) => scatter(key, trials, best))));
    if (data.sweep.keys.length > 1) section.append(parallel(trials, best));
  }
  section.append(trialTable());
};
