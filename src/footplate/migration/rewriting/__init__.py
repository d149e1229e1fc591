"""Rewriting first-generation config files: bases split as they were, comments kept."""

from footplate.migration.rewriting.migrating import Migrated, migrate_file, migrate_tree
from footplate.migration.rewriting.storing import check_file, check_folder, store

__all__ = ["Migrated", "check_file", "check_folder", "migrate_file", "migrate_tree", "store"]
