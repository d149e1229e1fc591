"""Inspects configs, runs and checkpoints without training: explain, compare, check and report."""
