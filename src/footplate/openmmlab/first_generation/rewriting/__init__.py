"""Rewrites first-generation config files and keeps their base files, expressions and comments."""
