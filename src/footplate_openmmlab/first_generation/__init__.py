"""Runs first-generation configs and code: translates the configs, and adapts the code to footplate's engine."""
