"""Trying many settings of a config, on optuna."""
