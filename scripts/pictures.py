"""Makes the pictures of README and docs from runs of fashion-seg: `python scripts/pictures.py [RUNS]`.

Trains below the folder RUNS, by default a temporary one; finished runs there are used again, and interrupted ones are
continued. Needs tmux, Debian's Chromium and its font Inter (fonts-inter). A run without changes to the code or
the report gives the same pictures except for times.
"""

import io
import json
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

from footplate.records import LAYOUT_TEXT

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
FOOTPLATE = [sys.executable, "-m", "footplate"]
TMUX = ["tmux", "-L", "footplate-pictures"]
COLUMNS, ROWS = 104, 18
# As on the page of a report in the dark theme: black, red, green, yellow, blue, magenta, cyan, white.
COLORS = [(58, 63, 74), (255, 138, 128), (74, 214, 161), (251, 191, 36), (143, 162, 255), (239, 140, 198)]
COLORS += [(80, 200, 220), (216, 221, 230)]
THEME = TerminalTheme((23, 27, 35), (216, 221, 230), COLORS, COLORS)


def length(iterations: int) -> list[str]:
    """Returns the settings of a run of another length."""
    return [f"train_cfg.max_iters={iterations}", f"param_scheduler.1.end={iterations}"]


def main() -> None:
    """Trains below the current folder, whose path the pictures do not show, and writes all pictures."""
    runs = Path("work_dirs")
    first = runs / "first"
    if not any(first.glob("2*/curves.png")):
        film(first)
    (log,) = first.glob("2*/")
    curves = Image.open(log / "curves.png").convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    curves.save(IMAGES / "curves.png", optimize=True)
    predictions(log / "vis_data/vis_image")
    footplate("report", str(first), "--out", str(runs / "first.html"))
    photograph(runs / "first.html", "report", 694)
    for name, rate in (("run_a", 0.002), ("run_b", 0.008)):
        if not (runs / name / "iter_480.pth").exists():
            settings = ["--cfg-options", f"optim_wrapper.optimizer.lr={rate}", *length(480)]
            footplate("train", "fashion-seg", "--work-dir", str(runs / name), "--resume", "auto", *settings)
    footplate("report", str(runs / "run_a"), str(runs / "run_b"), "--out", str(runs / "both.html"))
    photograph(runs / "both.html", "report-pictures", 625, section="pictures")


def footplate(*arguments: str) -> None:
    """Runs a command."""
    subprocess.run([*FOOTPLATE, *arguments], check=True)


def film(work_dir: Path) -> None:
    """Trains fashion-seg in a terminal, and writes its screen towards the end of the run as an SVG."""
    command = f"{shlex.join(FOOTPLATE)} train fashion-seg --work-dir {shlex.quote(str(work_dir))}; sleep 9"
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
    svg = console.export_svg(title="footplate train fashion-seg", theme=THEME, unique_id="display")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono")
    (IMAGES / "live-display.svg").write_text(svg, encoding="utf-8")


def predictions(folder: Path) -> None:
    """Writes the images, truths and predictions of two scenes after the last iteration to predictions.png."""
    files: dict[str, tuple[int, Path]] = {}  # by name, the last step and its file
    for path in folder.iterdir():
        name, _, step = path.stem.rpartition("_")
        files[name] = max(files.get(name, (-1, path)), (int(step), path))
    side, gap = 224, 12
    page = Image.new("RGBA", (3 * side + 2 * gap, 2 * side + gap))
    for row, (_, (_, path)) in enumerate(sorted(files.items())[:2]):
        with Image.open(path) as image:
            boxes = json.loads(image.info[LAYOUT_TEXT])["panels"][:3]
            for column, (_, *box) in enumerate(boxes):
                panel = image.crop(box).resize((side, side), Image.Resampling.NEAREST)
                page.paste(panel, (column * (side + gap), row * (side + gap)))
    page.quantize(128).save(IMAGES / "predictions.png", optimize=True)


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
            Image.open(shot).convert("RGB").quantize(256).save(IMAGES / f"{name}{suffix}.png", optimize=True)


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
