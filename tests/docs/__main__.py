"""Lists the pages, their code blocks and how each block is tested: `python -m tests.docs`."""

from collections import Counter

from tests.docs.pages import ROOT, blocks_of, commands_within, pages

HOW = {
    "module": "imported by the configs below it",
    "config": "read; whole ones checked, sections trained in the small run",
    "fragment": "trained in the small run; those of docs/migration.md in tests/openmmlab/first_generation",
    "code": "run",
    "commands": "run and compared, or taken by the command line",
    "script": "taken by the command line",
    "text": "shown",
}

if __name__ == "__main__":
    total: Counter[str] = Counter()
    for path in pages():
        text = path.read_text(encoding="utf-8")
        kinds = Counter(block.kind for block in blocks_of(text))
        total += kinds
        shown = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        print(f"{path.relative_to(ROOT)}: {shown or 'no blocks'}; {len(commands_within(text))} commands in sentences")
    for kind, number in total.items():
        print(f"{number:>4} {kind}: {HOW[kind]}")
