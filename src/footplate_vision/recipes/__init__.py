"""Configs for small runs with data that ships with footplate."""
