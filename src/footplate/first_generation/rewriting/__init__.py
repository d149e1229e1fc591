"""Rewrites first-generation config files and keeps their base files, expressions and comments."""

from footplate.first_generation.rewriting.migrate import (
    MigratedFile,
    check_output_file,
    check_output_folder,
    migrate_file,
    migrate_tree,
    write_files,
)

__all__ = ["MigratedFile", "check_output_file", "check_output_folder", "migrate_file", "migrate_tree", "write_files"]
