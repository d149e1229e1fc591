"""The plan of a run: its arguments, checked and completed, and the parts that are built from them."""
