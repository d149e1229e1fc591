// Assembles the page.

/** Links to the sections. Omits sections that contain only a title. */
const navigation = () => {
  for (const section of document.querySelectorAll("main > section")) {
    const title = section.querySelector("h2")?.firstChild.textContent;
    section.hidden = title && section.children.length === 1;
    if (title && !section.hidden) document.querySelector("nav").append(make("a", { href: `#${section.id}` }, title.split(",")[0]));
  }
};

setTheme(storedTheme() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
find("theme").addEventListener("click", switchTheme);
const longest = Math.max(0, ...trainLengths());
view.smoothing = longest > MANY ? Math.min(Number((1 - 20 / longest).toFixed(2)), 0.97) : 0;
root.classList.toggle("several", several);
overview(); worst(); pictures(); metrics(); classes(); trainingData(); details(); configs(); warnings(); environments(); navigation();
// Spreadsheets recognize negative numbers only with a hyphen, not with a minus sign.
addEventListener("copy", (event) => {
  const copied = getSelection().toString();
  if (!copied.includes(MINUS)) return;
  event.clipboardData.setData("text/plain", copied.replaceAll(MINUS, "-"));
  event.preventDefault();
});
addEventListener("beforeprint", () => charts.forEach((chart) => chart.render(true)));
window.footplate = { charts, view };
