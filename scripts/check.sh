#!/bin/sh
# The one check for people, pre-commit and CI: formatting, lint, types, layers, tests.
set -eu
: "${BIN:=.venv/bin}"
"$BIN/ruff" format --check .
"$BIN/ruff" check .
"$BIN/lint-imports"
# mypy uses one core for a minute, beside the tests. It reports after them.
types=$(mktemp)
trap 'rm -f "$types"' EXIT
"$BIN/mypy" > "$types" 2>&1 &
mypy=$!
status=0
"$BIN/python" -m pytest --numprocesses 2 "$@" || status=$?
wait "$mypy" || status=$?
cat "$types"
exit "$status"
