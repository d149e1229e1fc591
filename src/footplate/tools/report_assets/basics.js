"use strict";
// Elements, number formats and settings for all parts of the page.

// Removes the prototypes of objects. Otherwise, every object would seem to contain a scalar named "constructor".
const bare = (_, value) =>
  value && typeof value === "object" && !Array.isArray(value) ? Object.assign(Object.create(null), value) : value;
const data = JSON.parse(document.getElementById("data").textContent, bare);
const root = document.documentElement;
const COLORS = 8;
const MINUS = "\u2212";

const find = (id) => document.getElementById(id);

/** Sets attributes. Names that begin with "on" add event listeners; null values are ignored. */
const fill = (element, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
};
const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const draw = (name, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

const colorAt = (place) => `var(--run-${place % COLORS})`;
/** The number of the variant of each run. The seeds of a variant share a color. */
const variantOf = data.runs.map((_, run) => data.variants.findIndex(({ runs }) => runs.includes(run)));
const colorOf = (run) => colorAt(variantOf[run]);
const swatch = (run) => make("span", { class: "swatch", style: `background:${colorOf(run)}` });
const several = data.runs.length > 1;
const variantNames = data.variants.map(({ name }) => name);
/** Returns the texts of runs as one text per variant. The seeds of a variant usually have the same text. */
const byVariant = (texts) => data.variants.map(({ runs }) => [...new Set(runs.map((run) => texts[run]))].join(", "));
const pluralized = (count, noun) => `${count === 1 ? "one" : count} ${noun}${count === 1 ? "" : "s"}`;

/** Formats a number with five significant digits. */
const short = (value) => {
  if (value == null) return "–";
  const rounded = Number(value.toPrecision(5));
  const text = Math.abs(rounded) >= 1e6 || (rounded && Math.abs(rounded) < 1e-3) ? rounded.toExponential(2).replace(/\.?0+e/, "e") : String(rounded);
  return text.replace("-", MINUS);
};
/** The number of decimals for a metric, depending on its magnitude: 48.31, 0.4831. */
const decimals = (value) => (Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 10 ? 2 : Math.abs(value) >= 1 ? 3 : 4);
const figure = (value, like = value) => {
  if (value == null) return "–";
  const small = Math.abs(like) < 1e-3 && like;
  return (small || Math.abs(like) >= 1e7 ? value.toPrecision(4) : value.toFixed(decimals(like))).replace("-", MINUS);
};
/** Rounds a number as `figure` does, so that a difference matches the numbers next to it. */
const asShown = (value, like) => Number(figure(value, like).replace(MINUS, "-"));
const signed = (value, like) => (value > 0 ? "+" : "") + figure(value, like);
const whole = (value) => Math.round(value).toLocaleString("en-US");
/** Formats a number of iterations for an axis: 20k. */
const compact = (value) => {
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
  return Math.abs(value) >= 1e4 ? `${Number((value / 1e3).toPrecision(4))}k` : String(Number(value.toPrecision(6)));
};
const duration = (seconds) => {
  if (seconds < 59.5) return `${Number(seconds.toPrecision(2))} s`;
  const whole = Math.round(seconds);
  if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
};
const mebibytes = (value) => (value >= 10240 ? `${(value / 1024).toFixed(1)} GiB` : `${Math.round(value)} MiB`);

/** The name of a metric with its validation set. */
const fullName = (chart) => (chart.set ? `${chart.set}/${chart.name}` : chart.name);
const note = (text) => make("p", { class: "note" }, text);

/** A row of buttons, one of which is pressed. `choose` is called with its position. */
const choice = (labels, chosen, choose, label) => {
  const buttons = labels.map((text, place) =>
    make("button", { type: "button", "aria-pressed": place === chosen, onclick: () => {
      buttons.forEach((each, other) => each.setAttribute("aria-pressed", other === place));
      choose(place);
    } }, text));
  return make("span", { class: "choice", role: "group", "aria-label": label }, ...buttons);
};

const setTheme = (name) => {
  root.dataset.theme = name;
  find("theme").textContent = name === "dark" ? "Light theme" : "Dark theme"; // the theme to switch to
};
const storedTheme = () => {
  try { return localStorage.getItem("footplate-theme"); } catch { return null; }
};
const switchTheme = () => {
  setTheme(root.dataset.theme === "dark" ? "light" : "dark");
  try { localStorage.setItem("footplate-theme", root.dataset.theme); } catch { /* a page opened from a file may not store */ }
};
