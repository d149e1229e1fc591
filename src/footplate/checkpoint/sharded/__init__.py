"""Sharded checkpoints: folders to which each rank writes its own shards."""

from footplate.checkpoint.sharded.layout import SUFFIX, is_committed, is_folder, name_in_parts
from footplate.checkpoint.sharded.splitting import Part, joined, split

__all__ = ["SUFFIX", "Part", "is_committed", "is_folder", "joined", "name_in_parts", "split"]
