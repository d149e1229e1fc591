"""Defines events, the base class of hooks and the current activity of a run."""
