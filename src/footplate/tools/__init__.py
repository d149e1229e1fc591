"""Inspects configs, runs and checkpoints, for commands such as explain, check, analyze and report."""
