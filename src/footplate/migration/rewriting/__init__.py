"""Rewrites first-generation config files; keeps their bases and comments."""

from footplate.migration.rewriting.migrating import Migrated, migrate_file, migrate_tree
from footplate.migration.rewriting.storing import check_file, check_folder, store

__all__ = ["Migrated", "check_file", "check_folder", "migrate_file", "migrate_tree", "store"]
