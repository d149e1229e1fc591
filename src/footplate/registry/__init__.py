"""Registries, which map names to classes. They support scopes and suggest similar names for unknown ones."""

from footplate.registry import root
from footplate.registry.arguments import check_annotations, describe_types, wrong_types
from footplate.registry.registry import Registry, import_lazy
from footplate.registry.root import *
from footplate.registry.scopes import default_scope, set_default_scope, using_scope

__all__ = [
    "Registry",
    "check_annotations",
    "default_scope",
    "describe_types",
    "import_lazy",
    "set_default_scope",
    "using_scope",
    "wrong_types",
]
__all__ += root.__all__
