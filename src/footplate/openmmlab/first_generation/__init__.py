"""Runs first-generation configs and code: translation, migration of files, adapters."""
