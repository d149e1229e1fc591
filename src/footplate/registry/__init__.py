"""Registries that map names to classes, with scopes and suggestions for unknown names."""

from footplate.registry import root
from footplate.registry.arguments import check_annotations, find_wrong_type, import_lazy
from footplate.registry.registry import Registry
from footplate.registry.root import *
from footplate.registry.scopes import default_scope, set_default_scope, using_scope

__all__ = [
    "Registry",
    "check_annotations",
    "default_scope",
    "find_wrong_type",
    "import_lazy",
    "set_default_scope",
    "using_scope",
]
__all__ += root.__all__
