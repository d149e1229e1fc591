"""Computer vision tasks, recipes, prediction and export."""
