"""Adds the operators to the requirements of the wheel."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Operators(BuildHookInterface[Any]):
    """Makes the wheel require `footplate-operators`. An editable installation finds the package in `src`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the requirement, in the version of this package."""
        if version == "standard":
            build_data["dependencies"].append(f"footplate-operators=={self.metadata.version}")
