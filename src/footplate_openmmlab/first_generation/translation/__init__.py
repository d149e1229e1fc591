"""Translates first-generation configs into second-generation configs."""
