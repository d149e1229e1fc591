"""The runner, and code around a run: preflight check, run scope, prediction."""
