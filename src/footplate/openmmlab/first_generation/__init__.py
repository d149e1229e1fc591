"""Runs first-generation configs and code. Contains the config translation and the adapters for code."""
