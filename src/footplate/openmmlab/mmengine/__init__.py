"""The `mmengine` helpers that code bases use, for example for files, paths, progress, processes and weights."""
