"""Explains one topic of a config: hooks, schedule, parameters or loops."""
