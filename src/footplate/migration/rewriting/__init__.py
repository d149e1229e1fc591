"""Rewriting first-generation config files: bases split as they were, comments kept."""

from footplate.migration.rewriting.migrating import Migrated, migrate_file, migrate_tree

__all__ = ["Migrated", "migrate_file", "migrate_tree"]
