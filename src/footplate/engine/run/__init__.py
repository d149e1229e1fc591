"""The runner, which joins all parts, and what surrounds a run: the preflight check, its scope, predictions."""
