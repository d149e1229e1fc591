"""The training, validation and test loops."""
