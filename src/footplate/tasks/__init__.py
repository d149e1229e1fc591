"""Computer vision tasks. Importing this package registers the components of every task."""

import footplate.tasks._folders  # noqa: F401
