"""Prints the code tokens of each package next to its budget in `pyproject.toml`. Fails if one has more."""

import ast
import io
import sys
import tokenize
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# An f-string is one token, as before Python 3.12.
SKIPPED = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER", "FSTRING_START"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_tokens(text: str) -> int:
    """Counts the tokens of a source file, without comments and docstrings."""
    count, depth, nodes = 0, 0, [node for node in ast.walk(ast.parse(text)) if isinstance(node, DOCUMENTED)]
    docstrings = [node.body[0] for node in nodes if ast.get_docstring(node) is not None]
    skipped = {line for node in docstrings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        depth -= name == "FSTRING_END"
        count += not depth and name not in SKIPPED and token.start[0] not in skipped
        depth += name == "FSTRING_START"
    return count


if __name__ == "__main__":
    errors = ""
    for package, budget in tomllib.loads(Path("pyproject.toml").read_text())["tool"]["footplate"]["budget"].items():
        tokens = sum(code_tokens(path.read_text(encoding="utf-8")) for path in Path(package).rglob("*.py"))
        sys.stdout.write(f"{package:<24}{tokens:>8,} of {budget:>8,} code tokens\n")
        errors += f"error: {package} has {tokens:,} code tokens, and its budget is {budget:,}\n" * (tokens > budget)
    advice = "  Remove code, or raise the budget in pyproject.toml, with the reason in a comment on the same line."
    sys.exit(errors + advice if errors else 0)
