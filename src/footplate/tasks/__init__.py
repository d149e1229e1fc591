"""Tasks: each a folder with its data, metric, picture and a small model, registered when this room is imported."""

import footplate.tasks._folders  # noqa: F401
