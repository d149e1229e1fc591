"""Rewrites first-generation config files. Base files, expressions and comments are kept."""

from footplate.first_generation.rewriting.migrate import (
    MigratedFile,
    check_output_file,
    check_output_folder,
    migrate_file,
    migrate_tree,
    write_files,
)

__all__ = ["MigratedFile", "check_output_file", "check_output_folder", "migrate_file", "migrate_tree", "write_files"]
