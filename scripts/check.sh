#!/bin/sh
# The one check for people, pre-commit and CI: formatting, lint, layers, code tokens, types, tests.
set -eu
: "${BIN:=.venv/bin}"
"$BIN/ruff" format --check .
"$BIN/ruff" check .
"$BIN/lint-imports"
# Counting tokens and mypy use one core for a minute, in parallel with the tests. They report after them.
types=$(mktemp)
trap 'rm -f "$types"' EXIT
("$BIN/python" scripts/token_budget.py && "$BIN/mypy") > "$types" 2>&1 &
types_job=$!
status=0
"$BIN/python" -m pytest --numprocesses 2 --dist loadgroup "$@" || status=$?
wait "$types_job" || status=$?
cat "$types"
exit "$status"
