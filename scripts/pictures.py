"""Makes the pictures of README and docs from the two runs of the tutorial: `python scripts/pictures.py [FOLDER]`.

Follows docs/getting-started.md below FOLDER, by default a temporary one; finished runs there are used again, and an
interrupted second one is continued. Needs tmux, Debian's Chromium and its font Inter (fonts-inter). A run without
changes to the code or the report gives the same pictures except for times.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

DOCS = Path(__file__).resolve().parents[1] / "docs"
IMAGES = DOCS / "images"
FOOTPLATE = [sys.executable, "-m", "footplate"]
TMUX = ["tmux", "-L", "footplate-pictures"]
COLUMNS, ROWS = 104, 18
# As on the page of a report in the dark theme: black, red, green, yellow, blue, magenta, cyan, white.
COLORS = [(58, 63, 74), (255, 138, 128), (74, 214, 161), (251, 191, 36), (143, 162, 255), (239, 140, 198)]
COLORS += [(80, 200, 220), (216, 221, 230)]
THEME = TerminalTheme((23, 27, 35), (216, 221, 230), COLORS, COLORS)


def main() -> None:
    """Follows the tutorial below the current folder, whose path the pictures do not show, and writes all pictures."""
    page = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    for name, text in re.findall(r'^```python title="(\w+\.py)"\n(.*?)^```$', page, re.DOTALL | re.MULTILINE):
        Path(name).write_text(text, encoding="utf-8")
    if not Path("data").exists():
        subprocess.run([sys.executable, "sample_data.py"], check=True)
    if not Path("my_segmentation.py").exists():
        footplate("init", "segmentation", "data")
    first, second = Path("work_dirs/first"), Path("work_dirs/second")
    if not any(first.glob("2*/explained.txt")):
        film(first)
    footplate("report", str(first), "--out", "first.html")
    photograph(Path("first.html"), "report", 682)
    if not any(second.glob("2*/explained.txt")):
        wider = ["--resume", "auto", "--set", "model.widths=[32,64,96,128]"]
        footplate("train", "my_segmentation.py", "--work-dir", str(second), *wider)
    footplate("report", str(first), str(second), "--out", "both.html")
    photograph(Path("both.html"), "report-pictures", 704, section="pictures")


def footplate(*arguments: str) -> None:
    """Runs a command."""
    subprocess.run([*FOOTPLATE, *arguments], check=True)


def film(work_dir: Path) -> None:
    """Trains in a terminal, and writes its screen towards the end of the run as an SVG."""
    command = f"{shlex.join(FOOTPLATE)} train my_segmentation.py --work-dir {shlex.quote(str(work_dir))}; sleep 9"
    subprocess.run([*TMUX, "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), command], check=True)
    shown = False
    while subprocess.run([*TMUX, "has-session"], stderr=subprocess.DEVNULL).returncode == 0:
        time.sleep(0.5)
        screen = subprocess.run([*TMUX, "capture-pane", "-e", "-p"], capture_output=True, text=True).stdout
        done = re.findall(r" (\d+)/(\d+) +eta", re.sub(r"\x1b\[[\d;]*m", "", screen))
        if not shown and done and int(done[-1][0]) > 0.86 * int(done[-1][1]):
            # Begin with a line of the log, not within one or within a table.
            whole = re.search(r"^(\x1b\[\d+m)*\d\d:.*", screen, re.DOTALL | re.MULTILINE)
            draw(whole[0].rstrip("\n") if whole else screen)
            shown = True


def draw(screen: str) -> None:
    """Writes the screen of a terminal to live-display.svg, which asks no address for a font."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), no_wrap=True, overflow="crop")
    svg = console.export_svg(title="footplate train my_segmentation.py", theme=THEME, unique_id="display")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono")
    (IMAGES / "live-display.svg").write_text(svg, encoding="utf-8")


def photograph(page: Path, name: str, height: int, *, section: str = "") -> None:
    """Writes the top of a page, 1,200 pixels wide, in the light and the dark theme. Begins with `section` if given."""
    with tempfile.TemporaryDirectory() as folder:
        shot, copy = Path(folder) / "shot.png", Path(folder) / "page.html"
        style = "body { font-family: Inter }"
        if section:  # a screenshot does not follow an anchor
            style += f" section:has(~ #{section}) {{ display: none }}"
        text = page.read_text(encoding="utf-8")
        copy.write_text(text.replace("</head>", f"<style>{style}</style></head>", 1), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1.5"]
        flags += [f"--window-size=1200,{height}", "--virtual-time-budget=3000", f"--screenshot={shot}"]
        for suffix, scheme in (("", 1), ("-dark", 0)):
            command = ["chromium", *flags, f"--blink-settings=preferredColorScheme={scheme}"]
            subprocess.run([*command, f"file://{copy}"], check=True, capture_output=True)
            picture = Image.open(shot).convert("RGB").quantize(256, kmeans=3)  # without kmeans, rare colors change
            picture.save(IMAGES / f"{name}{suffix}.png", optimize=True)


if __name__ == "__main__":
    missing = [program for program in ("tmux", "chromium") if shutil.which(program) is None]
    if "Inter" not in subprocess.run(["fc-list", "Inter", "family"], capture_output=True, text=True).stdout:
        missing.append("fonts-inter")
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        os.chdir(sys.argv[1])
        main()
    else:
        with tempfile.TemporaryDirectory() as temporary:
            os.chdir(temporary)
            main()
