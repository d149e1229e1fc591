"""The runner, its loops and hooks, and what surrounds a run: process, folder, model."""
