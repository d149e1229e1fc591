"""The helpers of `mmengine` that code bases use, such as those for files, paths, progress, processes and weights."""
