"""Searches over the settings of a config with optuna."""
