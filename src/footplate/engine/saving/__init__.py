"""What a checkpoint contains, how it is saved and restored, and which one a run starts from."""
