"""Computer vision tasks and recipes."""
