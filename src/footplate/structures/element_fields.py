"""The two kinds of fields of a data element, and how they are read and written."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from footplate.errors import ArgumentError

_ABSENT = object()
FieldKind = Literal["data", "metainfo"]
FieldType = type | tuple[type, ...] | None


class Fields:
    """Named values of two kinds: data, which moves between devices, and what is known about it (`metainfo`).

    Both are read as attributes. An attribute that is set becomes data; `set_metainfo` adds to the other kind.
    A name belongs to one kind only. Data lies in the instance's `__dict__`, so reading it costs an attribute.
    """

    __slots__ = ("__dict__", "__weakref__", "_meta")

    _meta: dict[str, Any]

    @property
    def metainfo(self) -> dict[str, Any]:
        """A copy of what is known about the data."""
        return dict(self._meta)

    def set_field(
        self,
        value: Any,
        name: str,
        dtype: FieldType = None,
        field_type: FieldKind = "data",
    ) -> None:
        """Sets one field; the setter of a property in a subclass checks its type this way.

        Args:
            value: The value.
            name: The name of the field. `_name` belongs to the property `name`.
            dtype: The type the value must have.
            field_type: The kind of the field.

        Raises:
            ArgumentError: The value has another type, or the name belongs to a field of the other kind.
        """
        if dtype is not None and not isinstance(value, dtype):
            raise ArgumentError(f"the field '{name}' holds {_names(dtype)}, not {type(value).__name__}")
        if field_type == "metainfo":
            if name in self.__dict__:
                raise ArgumentError(f"'{name}' is a field of data, so it cannot be a field of metainfo")
            self._meta[name] = value
        elif name in self._meta:
            raise ArgumentError(f"'{name}' is a field of metainfo", notes=["set_metainfo() changes it"])
        else:
            object.__setattr__(self, name, value)  # a property of the class may keep it under another name

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the field `key` of either kind, or `default`."""
        return getattr(self, key, default) if key in self else default

    def pop(self, key: str, default: Any = _ABSENT) -> Any:
        """Removes the field `key` of either kind and returns its value.

        Raises:
            KeyError: There is no such field and no default.
        """
        if key not in self:
            if default is _ABSENT:
                raise KeyError(f"no field '{key}'")
            return default
        value = getattr(self, key)
        delattr(self, key)
        return value

    def keys(self) -> list[str]:
        """Returns the names of the data, in the order they were set."""
        return [self._public(name) for name in self.__dict__]

    def values(self) -> list[Any]:
        """Returns the values of the data."""
        return list(self.__dict__.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the data."""
        return zip(self.keys(), self.values(), strict=True)

    def metainfo_keys(self) -> list[str]:
        """Returns the names of the metainfo."""
        return list(self._meta)

    def metainfo_values(self) -> list[Any]:
        """Returns the values of the metainfo."""
        return list(self._meta.values())

    def metainfo_items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the metainfo."""
        return iter(self._meta.items())

    def __contains__(self, key: str) -> bool:
        return key in self.__dict__ or key in self._meta or key in self.keys()

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is no data; `_meta` itself is missing while an element is being unpickled.
        if name != "_meta" and name in self._meta:
            return self._meta[name]
        raise AttributeError(f"{type(self).__name__} has no field '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        self.set_field(value, name)

    def __delattr__(self, name: str) -> None:
        if name in self._meta:
            del self._meta[name]
        else:
            object.__delattr__(self, name)

    def __getstate__(self) -> Mapping[str, Any]:
        return {"metainfo": self._meta, "data": self.__dict__}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_meta", dict(state["metainfo"]))  # a shallow copy has its own
        self.__dict__.update(state["data"])

    def _public(self, name: str) -> str:
        public = name[1:]
        return public if name[0] == "_" and isinstance(getattr(type(self), public, None), property) else name


def _names(dtype: type | tuple[type, ...]) -> str:
    kinds = dtype if isinstance(dtype, tuple) else (dtype,)
    return " or ".join(kind.__name__ for kind in kinds)
