// Line charts as SVG. All charts share the horizontal axis and its visible range, the hidden curves and the smoothing.

const charts = [];
const view = { range: null, smoothing: 0, byTime: false, log: false, hidden: new Set() };
const MOST_LETTERS = 12; // the longest name that is shown next to a last point
const MANY = 150; // curves with more points are smoothed by default

/** Returns at least two round numbers between two bounds, in steps of 1, 2 or 5 times a power of ten. */
const ticks = (low, high, most) => {
  const rough = Math.max(high / most - low / most, Number.MIN_VALUE * 1e16);
  const power = 10 ** Math.floor(Math.log10(rough));
  const steps = [0.5, 1, 2, 5, 10].map((factor) => factor * power);
  const coarse = steps.findIndex((step) => step >= rough * 0.999);
  const firstOf = (step) => Math.ceil(low / step - 1e-9), lastOf = (step) => Math.floor(high / step + 1e-9);
  const step = steps[lastOf(steps[coarse]) > firstOf(steps[coarse]) ? coarse : coarse - 1];
  const first = firstOf(step), last = Math.min(lastOf(step), first + 20);
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, place) => Number(((first + place) * step).toPrecision(12))).filter(Number.isFinite);
};

/** Averages the exponential moving averages from both ends, so that the result does not lag. Gaps are kept. */
const smoothed = (values, factor) => {
  const forward = movingAverage(values, factor);
  const backward = movingAverage([...values].reverse(), factor).reverse();
  return forward.map((value, place) => (value == null ? value : value / 2 + backward[place] / 2));
};

/** Returns the exponential moving average, without a bias towards zero at the start. */
const movingAverage = (values, factor) => {
  let sum = 0, weight = 0;
  return values.map((value) => {
    if (value == null) return value;
    sum = sum * factor + value; weight = weight * factor + 1;
    return sum / weight;
  });
};

/** The training time in seconds of a run at an iteration. */
const secondsAt = (run, iteration) => {
  const { clock } = data.runs[run];
  const after = Math.max(1, clock.findIndex(([at]) => at >= iteration));
  const [[x, y], [nextX, nextY]] = clock.at(-1)[0] < iteration ? clock.slice(-2) : clock.slice(after - 1, after + 1);
  return y + ((nextY - y) * (iteration - x)) / (nextX - x);
};
/** Returns a curve or mark at its place on the horizontal axis. The training time of a band is the mean over its seeds. */
const placed = (each) => {
  if (!view.byTime) return each;
  const runs = each.low ? data.variants[variantOf[each.run]].counted : [each.run];
  const seconds = (at) => runs.reduce((sum, run) => sum + secondsAt(run, at), 0) / runs.length;
  return { ...each, x: Array.isArray(each.x) ? each.x.map(seconds) : seconds(each.x) };
};
const axisText = (value) => (view.byTime ? duration(value) : whole(value));
const axisName = () => (view.byTime ? "training time" : "iteration");

/** Returns the curves to draw. Training curves are smoothed, with the raw values in the background. */
const prepared = (curves) => curves.flatMap((curve) => {
  if (curve.role === "raw") return [{ ...curve, faint: true }];
  const noisy = view.smoothing > 0 && curve.mode === "train" && curve.role !== "mean" && curve.x.length > 2;
  if (!noisy) return [curve];
  const smooth = (key) => curve[key] && { [key]: smoothed(curve[key], view.smoothing) };
  return [...(curve.low ? [] : [{ ...curve, faint: true }]), { ...curve, ...smooth("y"), ...smooth("low"), ...smooth("high") }];
});

const extent = (values) => {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value != null && value < low) low = value;
    if (value != null && value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
};

/** The horizontal range of all charts. Begins at zero unless the first point is late. Computed when all charts exist. */
let allEnds = null;
const ends = () => {
  if (!allEnds) {
    const [first, last] = extent(charts.flatMap(({ source }) => source.curves.map(placed).flatMap(({ x }) => [x[0], x.at(-1)])));
    allEnds = first > 0 && first <= last / 4 ? [0, last] : [first, last];
  }
  return allEnds;
};

const renderAll = () => charts.forEach((chart) => chart.render());
/** Changes the axes of all charts. Shows the whole run again, because the unit may have changed. */
const setView = (changes) => {
  Object.assign(view, changes, { range: null });
  allEnds = null;
  renderAll();
};

const zoomTo = (low, high) => {
  const [first, last] = ends();
  view.range = low == null || (low <= first && high >= last) ? null : [Math.max(low, first), Math.min(high, last)];
  renderAll();
};

const zoomByKey = (event) => {
  const [low, high] = view.range ?? ends();
  const width = high - low;
  const moves = {
    "+": [low + width / 4, high - width / 4], "=": [low + width / 4, high - width / 4],
    "-": [low - width / 2, high + width / 2], "0": [null, null],
    ArrowLeft: [low - width / 4, high - width / 4], ArrowRight: [low + width / 4, high + width / 4],
  };
  if (!moves[event.key] || event.target.matches("input, select")) return;
  event.preventDefault();
  zoomTo(...moves[event.key]);
};

/** Adds a margin to two bounds. The result is never empty or infinite. */
const withMargin = (low, high) => {
  const margin = Math.min(high - low, Number.MAX_VALUE / 4) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [Math.max(low - margin, -Number.MAX_VALUE), Math.min(high + margin, Number.MAX_VALUE)];
};

/** The highest value that is at most 20 times the 90th percentile. Higher values are outliers that would flatten a curve. */
const usual = (values) => {
  const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
  const limit = 20 * sorted[Math.floor(0.9 * (sorted.length - 1))];
  return limit > 0 ? sorted.findLast((value) => value <= limit) : Infinity;
};

/** The lowest and highest visible value with a margin. The margin does not extend below zero if no value is negative. */
const verticalRange = (curves, [from, to], span, log) => {
  const all = curves.flatMap(({ x, y, low, high }) => [y, low, high].filter(Boolean).map((values) => ({ x, values })));
  const inView = all.flatMap(({ x, values }) => values.filter((_, place) => x[place] >= from && x[place] <= to));
  const values = inView.length ? inView : all.flatMap((each) => each.values);
  const [low, highest] = extent(values);
  if (log) return withMargin(Math.log10(low), Math.log10(highest)).map((power) => 10 ** power);
  const high = Math.min(highest, usual(values));
  const missing = Math.max(span - (high - low), 0);
  const [bottom, top] = withMargin(low - missing / 2, high + missing / 2);
  return [low >= 0 ? Math.max(bottom, 0) : bottom, top];
};

/** Returns round numbers on a logarithmic axis: 1, 2 and 5 times powers of ten, or only the powers if these are many. */
const logTicks = (low, high, most) => {
  const powers = Array.from({ length: Math.floor(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 }, (_, place) => 10 ** (Math.floor(Math.log10(low)) + place));
  const inside = (factors) => powers.flatMap((power) => factors.map((factor) => Number((factor * power).toPrecision(1)))).filter((tick) => tick >= low && tick <= high);
  const marks = [[1, 2, 5], [1]].map(inside).find((each) => each.length <= 2 * most) ?? inside([1]).filter((_, place, { length }) => !(place % Math.ceil(length / most)));
  return marks.length > 1 ? marks : ticks(low, high, most);
};

const PERCENTAGE = /IoU|acc|dice|f-?score|f1|precision|recall|mAP|(^|_)A[PR](_|\b|\d)/i;
/** The smallest range of values in a chart. Two points for percentages, so that noise does not look like progress. */
const leastSpan = ({ name, curves }) => {
  const [low, high] = extent(curves.flatMap((curve) => curve.y));
  return PERCENTAGE.test(name) && low >= 0 && high > 1 && high <= 100 ? 2 : 0;
};

/** Returns the `d` of a path. Skips non-finite values and connects their neighbors. */
const path = (curve, toX, toY) => {
  let text = "";
  for (let place = 0; place < curve.x.length; place++) {
    const y = curve.y[place];
    if (y != null) text += `${text ? "L" : "M"}${toX(curve.x[place]).toFixed(1)} ${toY(y).toFixed(1)}`;
  }
  return text;
};

const lineKey = (color, dash) => draw("svg", { class: "key", width: 22, height: 8, "aria-hidden": true }, draw("path", { d: "M0 4H22", style: `stroke:${color}`, "stroke-dasharray": dash }));

/** A legend whose entries hide and show the curves with their key in all charts. */
const legendOf = (entries) => {
  const items = entries.map(({ key, color, dash }) => {
    return make("li", {}, make("button", { type: "button", title: "Hide or show", "data-key": key, "aria-pressed": !view.hidden.has(key), onclick: () => {
      if (!view.hidden.delete(key)) view.hidden.add(key);
      document.querySelectorAll(".legend button").forEach((each) => each.setAttribute("aria-pressed", !view.hidden.has(each.dataset.key)));
      renderAll();
    } }, lineKey(color, dash), key));
  });
  return items.length ? make("ul", { class: "legend" }, ...items) : null;
};

/** Returns the `d` of the area between the lowest and the highest seed. */
const area = ({ x, low, high }, toX, toY) => {
  const edge = (values, places) => places.map((place) => `${toX(x[place]).toFixed(1)} ${toY(values[place]).toFixed(1)}`);
  const places = [...x.keys()].filter((place) => low[place] != null && high[place] != null);
  return places.length ? `M${[...edge(high, places), ...edge(low, places.reverse())].join("L")}Z` : "";
};

/**
 * A chart of curves over iterations.
 *
 * `curves` have `x`, `y`, `run`, `key` (in the legend), `color`, `name`, `mode`, and optionally `dash`, `partial` (a run that is not in the mean), `thin` and `lastLabel`, and for several seeds `low` and `high`; `marks` are highlighted points
 * with `x`, `y`, `color` and `text`. `span` is the smallest visible range of values.
 */
class LineChart {
  constructor({ title, subtitle = "", curves, marks = [], height = 200, legend = curves.length > 1, extra = [], span = 0 }) {
    Object.assign(this, { source: { curves, marks }, title, height, span });
    this.holder = make("div", { class: "plot", style: `height:${height}px` });
    const thinned = curves.some((curve) => curve.thinned);
    const heading = make("h3", {}, title, subtitle ? " " : null, subtitle ? make("small", {}, subtitle) : null);
    this.element = make("figure", {
      class: "chart card", tabindex: 0, role: "group", "aria-label": `Chart of ${title}`, onkeydown: zoomByKey,
    }, make("div", { class: "head" }, heading, ...extra), legend ? this.legend() : null, this.holder,
    thinned ? make("p", { class: "note thinned" }, "Thinned: each interval shows its lowest and highest value.") : null);
    this.listen();
    charts.push(this);
    LineChart.watch(this);
  }

  /** Draws a chart when it is scrolled close to the screen, and redraws it when its width changes. */
  static watch(chart) {
    LineChart.visible ??= new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
      target.chart.near = isIntersecting;
      if (isIntersecting) target.chart.render();
    }), { rootMargin: "400px" });
    LineChart.sized ??= new ResizeObserver((entries) => entries.forEach(({ target }) => target.chart.render()));
    chart.holder.chart = chart;
    LineChart.visible.observe(chart.holder);
    LineChart.sized.observe(chart.holder);
  }

  legend() {
    return legendOf([...Map.groupBy(this.source.curves.filter(({ thin, role }) => !thin && role !== "raw"), ({ key }) => key).values()].map(([curve]) => curve));
  }

  /** Draws the chart if it is near the screen or if `always` is set. */
  render(always = false) {
    const width = this.holder.clientWidth;
    if (!width || !(this.near || always)) return;
    [this.curves, this.marks] = ["curves", "marks"].map((kind) => this.source[kind].filter(({ key }) => !view.hidden.has(key)).map(placed));
    const shown = prepared(this.curves);
    const log = view.log && shown.length > 0 && shown.every(({ y, low }) => [y, low].every((values) => !values || values.every((value) => value == null || value > 0)));
    const range = view.range ?? ends();
    const [from, to] = range[0] < range[1] ? range : [range[0] - 1, range[1] + 1];
    const [low, high] = verticalRange(shown, [from, to], this.span, log);
    const yTicks = (log ? logTicks : ticks)(low, high, Math.max(2, this.height / 45));
    const left = 13 + 7.5 * Math.max(...yTicks.map((tick) => short(tick).length), 2), bottom = this.height - 36;
    const right = width - Math.max(4 * axisText(to).length + 4, ...this.lastPoints(from, to).map(({ text }) => 7 * text.length + 16));
    const toX = (x) => left + ((x - from) / (to - from)) * (right - left);
    const top = this.marks.some((mark) => mark.text) ? 24 : 8;
    const scaled = log ? Math.log10 : (y) => y / 2; // the difference of two large numbers may be infinite
    const toY = (y) => Math.max(bottom - ((scaled(y) - scaled(low)) / (scaled(high) - scaled(low))) * (bottom - top), 3);
    this.scale = { from, to, left, right, bottom, toX, toY };
    this.holder.replaceChildren(draw("svg", { width, height: this.height, role: "img", "aria-label": this.title },
      this.grid(yTicks), this.resumes(top), this.lines(shown), ...this.marks.map((mark) => this.mark(mark)), ...this.lastMarks(), this.outlier(high),
      this.cursor = draw("g", { class: "cursor" }), this.selection = draw("rect", { class: "selection", y: 0, height: bottom, width: 0 })));
  }

  grid(yTicks) {
    const { from, to, left, right, bottom, toX, toY } = this.scale;
    const rows = yTicks.map((tick) => [
      draw("line", { x1: left, x2: right, y1: toY(tick), y2: toY(tick) }),
      draw("text", { x: left - 7, y: toY(tick) + 4, "text-anchor": "end" }, short(tick)),
    ]);
    const unit = !view.byTime || to < 600 ? 1 : to < 36000 ? 60 : 3600; // seconds
    const columns = ticks(from / unit, to / unit, (right - left) / 80).filter(Number.isInteger).map((tick) => [
      draw("line", { class: "axis", x1: toX(tick * unit), x2: toX(tick * unit), y1: bottom, y2: bottom + 4 }),
      draw("text", { x: toX(tick * unit), y: bottom + 17, "text-anchor": "middle" }, axisText(tick * unit)),
    ]);
    return draw("g", { class: "grid" }, ...rows.flat(), draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }), ...columns.flat(),
      draw("text", { class: "unit", x: right, y: bottom + 31, "text-anchor": "end" }, axisName()));
  }

  /** Marks where the runs of the curves were resumed. */
  resumes(top) {
    const { from, to, bottom, toX } = this.scale;
    const places = [...new Set(this.curves.map(({ run }) => run))].flatMap((run) => data.runs[run].state.resumed.map((at) => ({ run, at, x: at })).map(placed));
    return draw("g", { class: "resumed" }, ...places.filter(({ x }) => x >= from && x <= to).flatMap(({ run, at, x }) => [
      draw("line", { style: `--c:${colorOf(run)}`, x1: toX(x), x2: toX(x), y1: several ? bottom - 8 : top, y2: bottom + 4 }, draw("title", {}, `${several ? `${data.runs[run].name} ` : ""}resumed at ${whole(at)}`)),
      several ? null : draw("text", { x: toX(x) + 4, y: bottom - 5 }, "resumed"),
    ]).filter(Boolean));
  }

  /** The curves, clipped to the frame of the chart. */
  lines(curves) {
    const { left, right, bottom } = this.scale;
    const box = { x: left - 4, y: 0, width: right - left + 8, height: bottom + 4 };
    return draw("svg", { ...box, viewBox: `${box.x} 0 ${box.width} ${box.height}` }, ...curves.map((curve) => this.line(curve)));
  }

  line(curve) {
    const { toX, toY } = this.scale;
    const known = curve.y.filter((value) => value != null).length;
    const kind = curve.partial ? "line partial" : curve.faint ? "line faint" : curve.thin ? `line thin${curve.lastLabel ? " labeled" : ""}` : "line";
    const group = draw("g", { style: `--c:${curve.color}` });
    if (curve.low) group.append(draw("path", { class: "band", d: area(curve, toX, toY) }));
    group.append(draw("path", { class: kind, d: path(curve, toX, toY), "stroke-dasharray": curve.dash }));
    if (!curve.faint && !curve.thin && known <= 40) {
      curve.x.forEach((x, place) => {
        if (curve.y[place] != null && x >= this.scale.from && x <= this.scale.to)
          group.append(draw("circle", { class: "dot", cx: toX(x), cy: toY(curve.y[place]), r: known === 1 ? 4 : 2.6 }));
      });
    }
    return group;
  }

  mark({ x, y, color, text }) {
    const { from, to, left, right, toX, toY } = this.scale;
    if (x < from || x > to) return null;
    const px = toX(x), py = toY(y);
    const anchor = px > right - 70 ? "end" : px < left + 70 ? "start" : "middle";
    return draw("g", { class: "mark", style: `--c:${color}` }, draw("circle", { cx: px, cy: py, r: 5 }),
      text ? draw("text", { x: anchor === "end" ? Math.min(px + 8, right + 8) : px, y: py - 11, "text-anchor": anchor }, text) : null);
  }

  /** The highest visible value, if it is above the frame. */
  outlier(high) {
    const { from, to, toX } = this.scale;
    const points = this.curves.flatMap(({ x, y }) => x.map((at, place) => ({ at, y: y[place] }))).filter(({ at, y }) => at >= from && at <= to && y > high);
    if (!points.length) return null;
    const { at, y } = points.reduce((most, each) => (each.y > most.y ? each : most));
    return draw("text", { class: "outlier", x: toX(at) + 6, y: 13 }, `↑ ${short(y)} at ${view.byTime ? duration(at) : compact(at)}`);
  }

  /** The last visible point of each curve with a `lastLabel`, and its text. */
  lastPoints(from, to) {
    return this.curves.filter((curve) => curve.lastLabel).flatMap((curve) => {
      const place = curve.x.findLastIndex((x, at) => x >= from && x <= to && curve.y[at] != null);
      const name = curve.lastLabel.length > MOST_LETTERS ? "" : `${curve.lastLabel} `;
      return place < 0 ? [] : [{ x: curve.x[place], y: curve.y[place], color: curve.color, text: name + figure(curve.y[place], curve.thin ? 10 : curve.y[place]) }];
    });
  }

  /** Draws rings at the last points, and their texts to the right. Moves texts apart if they would overlap. */
  lastMarks() {
    const { from, to, right, bottom, toX, toY } = this.scale;
    const points = this.lastPoints(from, to).sort((a, b) => b.y - a.y);
    const heights = [];
    points.forEach(({ y }, place) => heights.push(Math.max(toY(y) + 4, place ? heights[place - 1] + 15 : 0)));
    const excess = Math.max(0, ...heights.map((height) => height - bottom));
    return points.map(({ x, y, color, text }, place) => draw("g", { class: "mark last", style: `--c:${color}` },
      draw("circle", { cx: toX(x), cy: toY(y), r: 5 }), draw("text", { x: right + 11, y: heights[place] - excess }, text)));
  }

  /** Shows values under the pointer, and zooms by dragging. */
  listen() {
    const at = (event) => event.clientX - this.holder.getBoundingClientRect().left;
    const toValue = (px) => {
      const { from, to, left, right } = this.scale;
      return from + ((px - left) / (right - left)) * (to - from);
    };
    let begin = null;
    this.holder.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0 && this.scale) begin = at(event);
    });
    this.holder.addEventListener("pointermove", (event) => {
      if (!this.scale) return;
      if (begin != null) {
        this.selection.setAttribute("x", Math.min(begin, at(event)));
        this.selection.setAttribute("width", Math.abs(at(event) - begin));
      }
      this.hover(toValue(at(event)), event);
    });
    window.addEventListener("pointerup", (event) => {
      if (begin == null) return;
      const [low, high] = [toValue(begin), toValue(at(event))].sort((a, b) => a - b);
      const wide = Math.abs(at(event) - begin) > 6;
      begin = null;
      if (wide) zoomTo(low, high); else this.selection.setAttribute("width", 0);
    });
    this.holder.addEventListener("pointerleave", () => { find("tip").hidden = true; this.cursor?.replaceChildren(); });
    this.holder.addEventListener("dblclick", () => zoomTo(null, null));
  }

  hover(value, event) {
    const { bottom, toX, toY, from, to } = this.scale;
    let curves = this.curves.map((curve) => ({ curve, place: nearestPlace(curve.x, value) }))
      .filter(({ curve, place }) => curve.y[place] != null && curve.x[place] >= from && curve.x[place] <= to);
    const thin = curves.filter(({ curve }) => curve.thin);
    if (thin.length) {
      const y = event.clientY - this.holder.getBoundingClientRect().top;
      const distance = ({ curve, place }) => Math.abs(toY(curve.y[place]) - y);
      const closest = thin.reduce((best, each) => (distance(each) < distance(best) ? each : best));
      curves = curves.filter(({ curve }) => !curve.thin).concat([closest]);
    }
    if (!curves.length) return;
    const x = curves.map(({ curve, place }) => curve.x[place]).reduce((a, b) => (Math.abs(a - value) <= Math.abs(b - value) ? a : b));
    this.cursor.replaceChildren(draw("line", { x1: toX(x), x2: toX(x), y1: 8, y2: bottom }),
      ...curves.flatMap(({ curve, place }) => [
        curve.thin ? draw("path", { class: "line", style: `--c:${curve.color}`, d: path(curve, toX, toY) }) : null,
        draw("circle", { cx: toX(curve.x[place]), cy: toY(curve.y[place]), r: 4, style: `--c:${curve.color}` }),
      ]));
    showTip(event, [make("strong", {}, `${axisName()} ${axisText(x)}`), ...curves.map(({ curve, place }) =>
      make("span", {}, make("i", { style: `background:${curve.color}` }), `${curve.name} `, make("b", {}, short(curve.y[place])), curve.low ? ` (${short(curve.low[place])} to ${short(curve.high[place])})` : "",
        axisText(curve.x[place]) === axisText(x) ? "" : ` (at ${axisText(curve.x[place])})`))]);
  }
}

const nearestPlace = (values, value) => {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1; else high = middle;
  }
  return low > 0 && value - values[low - 1] < values[low] - value ? low - 1 : low;
};

const showTip = (event, lines) => {
  const tip = find("tip");
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > root.clientWidth ? event.clientX - width - 16 : event.clientX + 16;
  tip.style.transform = `translate(${Math.max(left, 4)}px, ${Math.max(event.clientY - height - 8, 4)}px)`;
};
