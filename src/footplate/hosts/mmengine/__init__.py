"""What `mmengine` offers to code bases beyond the engine: helpers for files, paths, progress, processes and weights."""
