"""The record of a translation rule."""

from collections.abc import Callable
from typing import NamedTuple

from footplate.migration.draft import Draft


class Rule(NamedTuple):
    """Translates some keys of the first generation.

    Attributes:
        id: Its name in reports and docs.
        summary: What it does, in one line.
        keys: The top-level keys that it reads; it acts where one of them is there. None: it acts always.
        apply: What it does to a draft.
        before: An example, as a config; `given` lines count too.
        after: What the example becomes.
        given: Further lines of the example that the rule looks at and leaves alone.
    """

    id: str
    summary: str
    keys: tuple[str, ...] | None
    apply: Callable[[Draft], None]
    before: str
    after: str
    given: str = ""

    def as_text(self) -> str:
        """Returns the rule as a section of the docs."""
        parts = [f"### {self.id}", self.summary]
        if self.before.strip():
            parts += [_code(self.before), "becomes"]
        parts.append(_code(self.after) if self.after.strip() else "nothing.")
        if self.given.strip():
            parts += ["where the config has", _code(self.given)]
        return "\n\n".join(parts) + "\n"

    def acts_on(self, draft: Draft) -> bool:
        """Checks whether the rule applies to a draft."""
        return self.keys is None or any(key in draft.remaining for key in self.keys)


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"
