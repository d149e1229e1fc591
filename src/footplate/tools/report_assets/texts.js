// Config, environment and warnings.

/** A text whose lines are filtered by a search field. */
const searchable = (text) => {
  const lines = text.split("\n");
  const code = make("pre", { tabindex: 0 }, text);
  const count = make("output", { class: "quiet" });
  const search = make("input", { type: "search", placeholder: "Search the lines", "aria-label": "Search the lines", oninput: () => {
    const wanted = search.value.toLowerCase();
    const found = lines.filter((line) => line.toLowerCase().includes(wanted));
    code.textContent = found.join("\n");
    count.value = wanted ? `${found.length} of ${lines.length} lines` : "";
  } });
  return make("div", { class: "searchable" }, make("div", { class: "controls" }, search, count), code);
};

/** A `details` whose content is made when it is opened, because configs are long. */
const folded = (title, content, open = false) => {
  const element = make("details", { ontoggle: () => {
    if (element.open && element.children.length === 1) element.append(content());
  } }, make("summary", {}, title));
  element.open = open;
  return element;
};

const configs = () => {
  const section = find("config");
  data.differences.forEach(({ name, text }) => {
    section.append(make("h3", {}, `From ${data.runs[0].name} to ${name}`));
    section.append(text ? searchable(text.trimEnd()) : note("The configs are equivalent."));
  });
  data.runs.forEach((run, number) => {
    if (run.config) section.append(folded(make("span", {}, several ? swatch(number) : null, several ? run.name : "Resolved config with the location of each key"), () => searchable(run.config.trimEnd())));
    else section.append(note(`${several ? `${run.name}: ` : ""}The run has no config.`));
  });
};

const environments = () => {
  const keys = [...new Set(data.runs.flatMap((run) => Object.keys(run.environment).filter((key) => typeof run.environment[key] === "string")))];
  const values = keys.map((key) => [key, data.runs.map((run) => run.environment[key] ?? "")]);
  if (!keys.length) { find("environment").append(note("The run has no record of its environment.")); return; }
  const alike = ([, each]) => new Set(each).size === 1;
  const rows = values.map((row) => make("tr", { class: alike(row) ? "" : "differs" }, make("th", { scope: "row" }, row[0]),
    ...(alike(row) && several ? [make("td", { colspan: data.runs.length }, row[1][0])] : row[1].map((text) => make("td", {}, text)))));
  const heads = several ? make("thead", {}, make("tr", {}, make("td"), ...data.runs.map((run) => make("th", { scope: "col" }, run.name)))) : null;
  find("environment").append(make("div", { class: "scroll" }, make("table", {}, heads, make("tbody", {}, ...rows))));
};

const warnings = () => {
  const section = find("warnings");
  const shown = data.runs.filter((run) => run.warnings.length);
  shown.forEach((run) => {
    if (several) section.append(make("h3", {}, swatch(data.runs.indexOf(run)), run.name));
    section.append(make("pre", { tabindex: 0 }, run.warnings.join("\n")));
  });
  if (!shown.length) section.append(note("None."));
};
