"""Looking into configs, runs and checkpoints without training: explain, compare, check, report."""
