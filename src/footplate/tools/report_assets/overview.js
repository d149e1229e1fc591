// The first screen, with the headline metric, the state and cost of the runs, and the main charts.

const headline = data.headline;
/** The config and the date of a run, as text. The folder of a launch is named after its time; other folders are skipped. */
const originOf = ({ config_name: config, launches }) => {
  const [, year, month, day, hour, minute] = launches.map((name) => name.match(/^(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)\d\d/)).find(Boolean) ?? [];
  const date = year && new Date(year, month - 1, day).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
  return [config, date && `${date}, ${hour}:${minute}`].filter(Boolean).join(" · ");
};

const metricName = headline ? headline.name : "";
const [leader] = data.runs; // the best run is first, if `isRanked`
/** Whether it is known if a higher or lower headline metric is better. Otherwise, the page shows the last values. */
const isRanked = headline?.rule != null;

const timeOf = ({ time }) => (time == null ? "–" : duration(time));

/** The difference between two values of the headline metric, after rounding them as the page does. */
const differenceOf = (value, other) => asShown(asShown(value, leader.metric.value) - asShown(other, leader.metric.value), leader.metric.value);
const stepName = headline?.mode === "train" ? "log line" : "validation";
const [best, second] = data.variants; // sorted by their means, if `isRanked`
const noun = data.variants.every(({ counted, seeds }) => counted.length === seeds) ? "seed" : "run"; // the folds of a cross-validation share a seed
const countOf = ({ counted }) => counted.length;
const isRunning = (run) => data.runs[run].state.running;
/** Whether a run of several seeds is not in their mean, for example because it is still running. */
const isPartial = (run) => !data.variants[variantOf[run]].counted.includes(run);
const seedText = () => {
  const [low, high] = extent(data.variants.map(({ runs, counted }) => runs.filter((run) => counted.includes(run) || isRunning(run)).length));
  const running = data.runs.filter((_, run) => isRunning(run)).length;
  return (low === high ? pluralized(low, noun) : `${low} to ${high} ${noun}s`) + (second ? " each" : "") + (running ? `, ${running} running` : "");
};

/** Compares the mean of the best variant with the second best. A single run is compared with its first validation. */
const changeOf = () => {
  const { metric } = leader;
  if (!isRanked)
    return make("p", { class: "change" }, `lowest ${figure(metric.lowest, metric.value)}, highest ${figure(metric.highest, metric.value)}`,
      make("small", {}, "It is unknown whether a higher or lower value is better. In the config, set save_best and rule of the checkpoint hook."));
  if (second) {
    if (!second.headline) return null;
    const change = differenceOf(best.headline.mean, second.headline.mean);
    const few = Math.min(best.seeds, second.seeds) < 3;
    return make("p", { class: "change" }, make("b", { class: best.clear && change ? "good" : "" }, change ? signed(change, metric.value) : "equal"), ` vs. ${second.name}`,
      make("small", {}, best.clear ? "every seed is better" : few ? "too few seeds to tell" : "the seeds overlap"));
  }
  if (several || metric.count < 2) return null;
  if (metric.flat) return make("p", { class: "change" }, `the same in all ${metric.count} ${stepName}s`);
  if (metric.value === metric.first && metric.last !== metric.value)
    return make("p", { class: "change" }, make("b", { class: "bad" }, "Never better"), ` than in the first ${stepName}, ${figure(metric.last, metric.value)} in the last`);
  const change = differenceOf(metric.value, metric.first);
  return make("p", { class: "change" }, make("b", {}, change ? signed(change, metric.value) : "equal"), ` since the first ${stepName}`);
};

/** The mean and the standard deviation over the runs of a variant. */
const spreadOf = ({ mean, deviation }) => [figure(mean, leader.metric.value), deviation == null ? null : make("small", {}, `\u00a0±\u00a0${figure(deviation, leader.metric.value)}`)];

const lead = () => {
  if (!leader.metric) return make("div", { class: "lead" }, make("p", { class: "eyebrow" }, "No metric"), make("p", { class: "note" }, "No validation metric or loss is recorded."));
  const { value, iteration, count: validations } = leader.metric;
  const kind = headline.mode === "train" ? "training" : headline.mode === "test" ? "test" : `${isRanked ? "best" : "last"} of ${pluralized(validations, "validation")}`;
  const count = countOf(best);
  const isLast = isRanked && headline.mode !== "test" && validations > 1 && leader.metric.last === value;
  const where = count > 1 ? `, ${count} ${noun}s from ${figure(best.headline.lowest, value)} to ${figure(best.headline.highest, value)}; ± is their standard deviation`
    : leader.metric.flat ? "" : `${several ? ", " : ""}at iteration ${whole(iteration)} of ${whole(leader.state.planned ?? leader.state.done)}${isLast ? `, in the last ${stepName}` : ""}`;
  return make("div", { class: "lead" },
    make("p", { class: "eyebrow" }, metricName, " ", make("span", {}, count > 1 ? `mean of ${count} ${noun}s, ${kind}` : kind)),
    make("p", { class: "big" }, ...spreadOf(best.headline)),
    changeOf(),
    make("p", { class: "quiet" }, several ? make("span", { class: "who" }, swatch(0), best.name) : null, where));
};

const fact = (label, value, text, kind = "") =>
  make("div", { class: "fact" }, make("dt", {}, label), make("dd", { class: kind }, value), make("dd", { class: "quiet" }, ...[text].flat()));

const capitalized = (text) => text[0].toUpperCase() + text.slice(1);

const facts = (run) => make("dl", { class: "facts" },
  ...(run.problem ? [fact("Problem", capitalized(run.problem.name), run.problem.text, "bad")] : []),
  fact("State", capitalized(run.state.name), run.state.text),
  fact("Training time", timeOf(run), run.cost));

const MOST_SETTINGS = 4; // columns of the leaderboard

/** A table with one row per variant, the best variant first. The seeds of a variant stand below it. */
const leaderboard = () => {
  const value = leader.metric?.value;
  const settings = data.differences.filter(({ distinguishes }) => distinguishes);
  const changeOf = (mean, place) => (mean == null || value == null ? "–" : make("span", { class: data.variants[place].clear ? "" : "unknown" }, signed(differenceOf(mean, best.headline.mean), value)));
  const zerosCell = (run) => {
    const { zeros, count } = mostZeros(run);
    return count ? make("span", { class: zeros ? "bad" : "", title: `${zeros} of ${count} classes are at zero` }, String(zeros)) : "–";
  };
  const stateCell = ({ problem, state }) => make("span", problem ? { class: "bad", title: problem.text } : { title: state.text }, problem ? problem.name : state.name);
  // Each column has a head, a kind, and the contents for the place of a variant, its only run and one of its seeds.
  const columns = [
    [metricName, "score", { variant: ({ headline: spread }) => (spread ? spreadOf(spread) : "–"), run: ({ metric }) => (metric ? figure(metric.value, value) : "–") }],
    ...(second ? [[isRanked ? "vs. best" : "vs. first", "", { variant: ({ headline: spread }, place) => (place ? changeOf(spread?.mean, place) : "–") }]] : []),
    ...settings.slice(0, MOST_SETTINGS).map(({ name, key, values }) => [make("span", { title: key }, name), "setting", { variant: (_, place) => make("span", { title: values[place] }, values[place]) }]),
    [isRanked ? "Best at" : "Last at", "", { run: ({ metric }) => (metric ? whole(metric.iteration) : "–") }],
    ...(data.runs.some((_, run) => mostZeros(run).zeros) ? [["At zero", "", { run: (_, number) => zerosCell(number) }]] : []),
    ["State", "word", { run: stateCell }],
    ["Training time", "", { run: timeOf }],
    ["Peak memory", "", { run: ({ memory }) => (memory ? mebibytes(memory) : "–") }],
  ];
  const row = (kind, head, contentOf) => make("tr", { class: kind }, head, ...columns.map(([title, cell, contents]) =>
    make("td", { class: cell, "data-label": title.textContent ?? title }, ...[contentOf(contents)].flat().filter((each) => each != null))));
  const runHead = (run, place) => make("th", { scope: "row", title: [data.runs[run].name, originOf(data.runs[run])].filter(Boolean).join(" · ") }, place == null ? null : swatch(run), data.runs[run].name);
  const rowsOf = (variant, place) => {
    const { name, runs, counted } = variant, kind = place || !isRanked ? "" : "best";
    if (runs.length === 1) return [row(kind, runHead(runs[0], place), ({ variant: ofVariant, run }) => (run ? run(data.runs[runs[0]], runs[0]) : ofVariant(variant, place)))];
    const seeds = make("small", {}, `${counted.length < runs.length ? `${counted.length} of ` : ""}${runs.length} seeds`);
    return [row(kind, make("th", { scope: "row", title: name }, swatch(runs[0]), name, " ", seeds), ({ variant: ofVariant }) => ofVariant?.(variant, place)),
      ...runs.map((number) => row("seed", runHead(number), ({ run }) => run?.(data.runs[number], number)))];
  };
  const notes = [
    data.variants.some(({ headline: spread }) => spread?.deviation != null) ? "± is the standard deviation over seeds (n − 1)." : "",
    settings.length > MOST_SETTINGS ? `${settings.length - MOST_SETTINGS} more settings differ; see Config.` : "",
    second ? "A difference is clear if both variants have at least three seeds, and every seed of one variant is better than every seed of the other. Other differences are gray. If two equal variants have three seeds each, chance alone makes their difference clear in one of ten cases." : "",
  ].filter(Boolean);
  return make("div", {}, make("div", { class: "scroll" }, make("table", { class: "runs", id: "figures" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, data.variants.length < data.runs.length ? "Variant" : "Run"), ...columns.map(([title, kind]) => make("th", { class: kind === "score" ? null : kind, scope: "col" }, title)))),
    make("tbody", {}, ...data.variants.flatMap(rowsOf)))),
  notes.length ? note(notes.join(" ")) : null);
};

/** The command that uses the checkpoint of the best run of the best variant, with a button that copies it. */
const command = () => {
  const { use } = leader;
  if (!use) return null;
  const button = make("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(use.command); button.textContent = "Copied"; } catch {
      getSelection().selectAllChildren(code); // a page opened from a file may not be allowed to copy
    }
  } }, "Copy");
  const code = make("code", { tabindex: 0 }, use.command);
  const seed = isRanked && leader.metric && best.runs.length > 1 ? `the best ${best.counted.length < best.runs.length ? "complete " : ""}run of ${best.name}` : "";
  return make("div", { class: "command" }, make("span", {}, `Use the ${use.best ? "best" : "last"} checkpoint${several ? ` of ${leader.name}` : ""}`, " ", make("small", {}, [seed, use.size].filter(Boolean).join(", "))), code, button);
};

/** Adds colors and names to the curves of a chart. Uses one color per run or, for a single run, one per curve. */
const styled = (chart) => chart.curves.map((curve, place) => {
  const validates = curve.mode !== "train" && curve.label;
  const label = chart.curves.some((other) => other.label !== curve.label) ? curve.label : "";
  const owner = curve.low ? variantNames[variantOf[curve.run]] : data.runs[curve.run].name;
  const name = [several ? owner : "", label].filter(Boolean).join(", ") || fullName(chart);
  return { ...curve, partial: several && !curve.low && isPartial(curve.run), name: curve.role === "raw" ? `${name}, as logged` : name, key: several ? variantNames[variantOf[curve.run]] : name, color: several ? colorOf(curve.run) : colorAt(place), dash: several && validates ? "6 4" : null };
});

const bestMarks = (curves) => curves.filter((curve) => isRanked && !curve.low && data.runs[curve.run].metric).map((curve) => {
  const { value, iteration } = data.runs[curve.run].metric;
  if (curve.partial) {
    const last = curve.y.findLastIndex((y) => y != null);
    return { x: curve.x[last], y: curve.y[last], run: curve.run, key: curve.key, color: curve.color, text: `${curve.name}, ${data.runs[curve.run].state.name}` };
  }
  const named = curve.run === 0;
  return { x: iteration, y: value, run: curve.run, key: curve.key, color: curve.color, text: named ? `best ${figure(value)} at ${compact(iteration)}` : "" };
});

/** The data of the headline chart, or null if the loss chart shows the headline metric. */
const headlineData = () => (headline?.mode === "train" && data.charts.loss ? null : data.charts.headline);
/** The charts of the headline metric on other validation sets. For a single run, the headline chart shows all sets. */
const otherSets = (chart) => (several || !chart.set ? [] : data.charts.metrics.filter((each) => each.mode === chart.mode && each.name === chart.name && each.set && each.set !== chart.set));
/** Whether the first screen shows a chart as it is, so that the metrics section omits it. */
const isOnFirstScreen = (chart) => {
  const shown = headlineData();
  return shown && ["mode", "set", "name"].every((key) => chart[key] === shown[key]) && !otherSets(shown).length;
};

const headlineChart = () => {
  const chart = headlineData();
  if (!chart) return null;
  const others = otherSets(chart);
  const all = [chart, ...others].flatMap((each) => each.curves.map((curve) => ({ ...curve, label: others.length ? each.set : "", lastLabel: others.length ? each.set : "" })));
  const curves = styled({ ...chart, curves: all });
  const title = others.length ? chart.name : fullName(chart);
  const options = { title, curves, marks: bestMarks(curves.slice(0, chart.curves.length)), height: 250, legend: curves.length > 1 && (!several || data.variants.length > 1) };
  return others.length ? chartOf(chart, options).element : metricChart(chart, options);
};

const lossChart = () => {
  const chart = data.charts.loss;
  if (!chart) return null;
  const setOf = (curve) => curve.label.split(": ")[1];
  // Several runs with several validation sets would be too many curves.
  const isOfHeadline = (curve) => headline?.name.startsWith(`${setOf(curve)}/`);
  // The prefix of a metric may also come from its evaluator; losses have no such prefix.
  const filters = several && chart.curves.some(isOfHeadline);
  const curves = styled({ ...chart, curves: chart.curves.filter((curve) => curve.mode === "train" || !filters || isOfHeadline(curve)) });
  const validations = curves.filter((curve) => curve.mode !== "train");
  const validated = validations.length > 0;
  if (validated && !several) {
    // Use the same colors as in the chart of the metric.
    curves.forEach((curve) => { curve.color = "var(--run-6)"; });
    validations.forEach((curve, place) => {
      curve.color = colorAt(place);
      curve.lastLabel = setOf(curve);
    });
  }
  const marks = bestMarks(validations.filter((curve) => headline?.name === [setOf(curve), "loss"].filter(Boolean).join("/")));
  const built = new LineChart({ title: "Loss", subtitle: `training${curves.some(({ role }) => role === "mean") ? " (mean since the previous validation)" : ""}${validated ? " and validation" : ""}`, curves, marks, height: 250, legend: curves.length > 1 && (!several || data.variants.length > 1) });
  if (validated && several) built.element.querySelector(".head").after(make("ul", { class: "legend" },
    ...[["training", null], ["validation", "6 4"]].map(([name, dash]) => make("li", {}, lineKey("var(--quiet)", dash), name))));
  if (!validated) built.element.append(make("p", { class: "note" }, "No validation loss is recorded. To add it, set ", make("code", {}, "val_cfg = dict(loss=True)"), " or, if the run has a ", make("code", {}, "training_step"), ", pass ", make("code", {}, "loss=..."), " to the Runner."));
  if (curves.every(({ x }) => x.length === 1)) built.element.append(note(`Logged once${several ? " per run" : ""}.`));
  return built.element;
};

const overview = () => {
  const levels = Map.groupBy(warningGroups(), ({ isError }) => (isError ? "error" : "warning"));
  const counts = ["error", "warning"].filter((level) => levels.has(level)).map((level) => `${levels.get(level).length} ${level}${levels.get(level).length > 1 ? "s" : ""}`);
  const { zeros, count } = several ? { zeros: 0 } : mostZeros(0);
  const chips = [
    zeros ? make("a", { class: "chip bad", href: "#classes" }, `${zeros} of ${count} classes at zero`) : null,
    counts.length ? make("a", { class: levels.has("error") ? "chip bad" : "chip", href: "#warnings" }, counts.join(", ")) : null,
  ];
  if (levels.has("error")) find("overview").after(find("warnings")); // minor ones come after the images
  find("overview").append(
    make("div", { class: "title" }, make("h1", {}, several ? `${pluralized(data.variants.length, "variant")}, ${seedText()}` : data.title), ...chips, several ? null : make("p", { class: "quiet" }, originOf(leader))),
    make("div", { class: !several && leader.problem ? "hero card failed" : "hero card" }, lead(), several ? leaderboard() : facts(leader)),
    ...[command()].filter(Boolean),
    make("div", { class: "main-charts" }, headlineChart(), lossChart()), chartControls());
};
