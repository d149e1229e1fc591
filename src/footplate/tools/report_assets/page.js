// Puts the page together.

/** Links to the sections that are shown. */
const navigation = () => {
  for (const section of document.querySelectorAll("main > section:not([hidden])")) {
    const title = section.querySelector("h2")?.firstChild.textContent;
    if (title) document.querySelector("nav").append(make("a", { href: `#${section.id}` }, title.split(",")[0]));
  }
};

setTheme(storedTheme() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
find("theme").addEventListener("click", switchTheme);
const noisy = data.charts.loss?.curves.some((curve) => curve.mode === "train" && curve.x.length > MANY);
view.smoothing = noisy ? 0.8 : 0;
sweep(); overview(); pictures(); metrics(); classes(); details(); configs(); warnings(); environments(); navigation();
addEventListener("beforeprint", () => charts.forEach((chart) => chart.render(true)));
window.footplate = { charts, view };
