"""The definition of a translation rule."""

from collections.abc import Callable
from typing import NamedTuple

from footplate.first_generation.translation.draft import Draft


class Rule(NamedTuple):
    """A rule that translates some first-generation keys, with an example for docs and tests.

    Attributes:
        id: The name of the rule in the docs.
        summary: What the rule does, in one line.
        keys: The top-level keys that trigger the rule; None applies it always.
        apply: Applies the rule to a draft.
        before: The example, as config source.
        after: The result for the example, as config source.
        given: Further lines of the example that the rule reads but does not translate.
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
            parts += ["in a config with", _code(self.given)]
        return "\n\n".join(parts) + "\n"

    def acts_on(self, draft: Draft) -> bool:
        """Checks whether the rule applies to a draft."""
        return self.keys is None or any(key in draft.remaining for key in self.keys)


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"
