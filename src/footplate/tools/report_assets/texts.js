// Configs, environments and warnings.

/** A config with a search field that filters its lines. The location at the end of a line is dimmed. */
const searchable = (text) => {
  const lines = text.split("\n");
  const code = make("pre", { tabindex: 0 });
  const show = (shown) => code.replaceChildren(...shown.flatMap((line) => {
    const [, start, location] = line.match(/^(.*?)( {2}# [^#]*)?$/);
    return [start, location ? make("span", {}, location) : "", "\n"];
  }));
  const count = make("output", { class: "quiet" });
  const search = make("input", { type: "search", placeholder: "Search the lines", "aria-label": "Search the lines", oninput: () => {
    const wanted = search.value.toLowerCase();
    const found = lines.filter((line) => line.toLowerCase().includes(wanted));
    show(found);
    count.value = wanted ? `${found.length} of ${lines.length} lines` : "";
  } });
  show(lines);
  return make("div", { class: "searchable" }, make("div", { class: "controls" }, search, count), code);
};

/** A `details` element whose content is created when it is opened, because configs are long. */
const folded = (title, content, open = false) => {
  const element = make("details", { ontoggle: () => {
    if (element.open && element.children.length === 1) element.append(content());
  } }, make("summary", {}, title));
  element.open = open;
  return element;
};

const MOST_WARNINGS = 3; // that are shown at first

/** The part of a message that does not vary: without its numbers, and without what it lists after a clause and a colon. */
const templateOf = (text) => text.replace(/(?<=^(?:[^\s:]+ ){3,}[^\s:]+): .*?(?=\. |$)/s, ":").replace(/\d+/g, "0");

/** Groups warnings by their templates, errors first. Each group has its count and its runs. */
const warningGroups = () => {
  const all = data.runs.flatMap((run, place) => run.warnings.map((line) => {
    const logged = line.replace(/^\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S* - /, "");
    const text = logged.replace(/^(?:footplate\S* - |(\S+ - ))(WARNING|ERROR|CRITICAL) - /, (_, name) => name ?? "");
    return { text, place, isError: /^\S+ - (ERROR|CRITICAL) - /.test(logged) };
  }));
  const groups = [...Map.groupBy(all, ({ text, isError }) => `${isError} ${templateOf(text)}`).values()].map((each) => ({
    isError: each[0].isError, texts: [...new Set(each.map(({ text }) => text))], count: each.length, runs: [...new Set(each.map(({ place }) => place))],
  }));
  return groups.sort((a, b) => b.isError - a.isError);
};

const configs = () => {
  const section = find("config");
  if (data.differences.length) {
    const rows = data.differences.map(({ key, values }) => [key, values]);
    section.append(make("div", { class: "card" }, facing(rows, ["Different", ...variantNames])));
  } else if (several && data.runs.every((run) => run.config)) section.append(note("The configs are equivalent."));
  // The configs of a variant differ only in their seeds.
  data.variants.forEach(({ name, runs }) => {
    const shown = runs.find((run) => data.runs[run].config);
    if (shown != null) {
      const title = several ? [swatch(shown), name, " ", runs.length > 1 ? make("small", {}, `config of ${data.runs[shown].name}`) : null] : ["Resolved config with the location of each key"];
      section.append(folded(make("span", {}, ...title), () => searchable(data.runs[shown].config.trimEnd())));
    } else if (data.runs.some(({ config }) => config)) section.append(note(`${name}: The run has no readable config.`));
  });
};

/** A table of texts with one row per key and one column per variant. Keys may wrap after a dot or underscore. */
const facing = (rows, heads) => make("div", { class: "scroll" }, make("table", {},
  make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))),
  make("tbody", {}, ...rows.map(([key, texts]) => make("tr", {}, make("th", { scope: "row" }, ...key.split(/(?<=[._])/).flatMap((part) => [part, make("wbr")])), ...texts.map((text) => make("td", {}, text)))))));

const environments = () => {
  const section = find("environment");
  const keys = [...new Set(data.runs.flatMap((run) => Object.keys(run.environment).filter((key) => key === "processes" || typeof run.environment[key] === "string")))];
  const rows = keys.map((key) => [key, data.runs.map((run) => run.environment[key] ?? "–")]);
  const alike = rows.filter(([, texts]) => new Set(texts).size === 1).map(([key, [text]]) => [key, [text]]);
  const differing = rows.filter(([, texts]) => new Set(texts).size > 1);
  if (differing.length) section.append(facing(differing.map(([key, texts]) => [key, byVariant(texts)]), ["Different", ...variantNames]));
  if (alike.length) section.append(facing(alike, [several ? "The same in all runs" : "Property", "Value"]));
};

const warnings = () => {
  const total = data.runs.length;
  const shown = warningGroups().map(({ texts: [first, ...others], count, runs, isError }) => {
    const times = count > runs.length ? `${whole(count)} times` : several ? "" : "once";
    const level = make("span", { class: isError ? "bad" : "warning" }, isError ? "Error" : "Warning");
    const where = several ? `in ${runs.length} of ${total} runs` : "";
    const names = several && runs.length < total ? make("small", { class: "names" }, ...runs.map(byRunName)) : null;
    return [
      make("h3", {}, level, ...[where, times].filter(Boolean).map((text) => `, ${text}`), names),
      make("pre", { class: isError ? "bad" : null, tabindex: 0 }, first),
      ...(others.length ? [folded(`${others.length} more like this`, () => make("pre", { tabindex: 0 }, others.join("\n")))] : []),
    ];
  });
  const rest = shown.slice(MOST_WARNINGS);
  find("warnings").append(...shown.slice(0, MOST_WARNINGS).flat(), ...(rest.length ? [folded(`${rest.length} more`, () => make("div", {}, ...rest))] : []));
};
