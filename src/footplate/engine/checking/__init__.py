"""What is checked before a run trains: its arguments, its config, its data."""
