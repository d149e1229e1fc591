"""Registries, which map names to classes. They support scopes, and suggest similar names for unknown names."""

from footplate.registry import root
from footplate.registry.arguments import check_annotations
from footplate.registry.registry import Registry, import_lazy
from footplate.registry.root import *
from footplate.registry.scopes import default_scope, set_default_scope, using_scope

__all__ = ["Registry", "check_annotations", "default_scope", "import_lazy", "set_default_scope", "using_scope"]
__all__ += root.__all__
