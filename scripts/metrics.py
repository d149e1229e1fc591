"""Prints the size of the packages: lines, files, the median file, private helpers that are used once."""

import ast
import re
import statistics
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "footplate"


def main() -> None:
    """Prints one line per package, and one in all."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    words = Counter(word for text in files.values() for word in re.findall(r"\w+", text))
    rows: dict[str, list[tuple[int, int]]] = {}
    for path, text in files.items():
        helpers = [
            node.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.match(r"_[^_]", node.name)
        ]
        once = sum(words[name] == 2 for name in helpers)  # its definition and one use
        package = path.relative_to(ROOT).parts[0] if path.parent != ROOT else "footplate"
        rows.setdefault(package, []).append((len(text.splitlines()), once))
    rows["in all"] = [each for values in rows.values() for each in values]
    print(f"{'package':18} {'files':>5} {'lines':>6} {'median':>6} {'longest':>7} {'once':>5}")
    for package, values in rows.items():
        lines = [length for length, _ in values]
        print(
            f"{package:18} {len(lines):5} {sum(lines):6} {statistics.median(lines):6.0f} {max(lines):7} "
            f"{sum(once for _, once in values):5}"
        )


if __name__ == "__main__":
    main()
