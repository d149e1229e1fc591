"""What a rule is."""

from collections.abc import Callable
from typing import NamedTuple

from footplate.migration.draft import Draft


class Rule(NamedTuple):
    """How some keys of the first generation are said in the second.

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
        """Returns the rule as a page of the docs shows it."""
        parts = [f"### {self.id}", self.summary]
        if self.before.strip():
            parts += [_code(self.before), "becomes"]
        parts.append(_code(self.after) if self.after.strip() else "nothing.")
        if self.given.strip():
            parts += ["where the config has", _code(self.given)]
        return "\n\n".join(parts) + "\n"

    def acts_on(self, draft: Draft) -> bool:
        """Tells whether there is something for it to do."""
        return self.keys is None or any(key in draft.rest for key in self.keys)


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"
