#!/bin/sh
# The one check for people, pre-commit and CI: formatting, lint, types, layers, tests.
set -eu
: "${BIN:=.venv/bin}"
"$BIN/ruff" format --check .
"$BIN/ruff" check .
"$BIN/mypy"
"$BIN/lint-imports"
"$BIN/python" -m pytest --numprocesses 2 "$@"
