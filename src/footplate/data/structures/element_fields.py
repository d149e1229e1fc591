"""Attribute access to the data and metainfo fields of a data element."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from footplate.errors import ArgumentError

_ABSENT = object()
FieldKind = Literal["data", "metainfo"]
FieldType = type | tuple[type, ...] | None


class ElementFields:
    """Named fields of two kinds: data, which moves between devices, and metainfo, which describes the data.

    Both kinds are read as attributes. Setting an attribute sets a data field; `set_metainfo` sets metainfo.
    A name belongs to one kind only. Data is stored in the `__dict__` of the instance, so that reading a data field is
    a plain attribute access.
    """

    __slots__ = ("__dict__", "__weakref__", "_meta")

    _meta: dict[str, Any]

    @property
    def metainfo(self) -> dict[str, Any]:
        """A shallow copy of the metainfo."""
        return dict(self._meta)

    def set_field(
        self,
        value: Any,
        name: str,
        dtype: FieldType = None,
        field_type: FieldKind = "data",
    ) -> None:
        """Sets one field.

        Property setters of subclasses call this with `dtype` to check the type.

        Args:
            value: The value.
            name: The name of the field. A property `name` stores its value as `_name`.
            dtype: The required type of the value; None accepts any.
            field_type: The kind of the field.

        Raises:
            ArgumentError: The value has another type, or the name is already used by a field of the other kind.
        """
        if dtype is not None and not isinstance(value, dtype):
            raise ArgumentError(f"the field '{name}' must be of type {_type_names(dtype)}, not {type(value).__name__}")
        if field_type == "metainfo":
            if name in self.__dict__:
                raise ArgumentError(f"'{name}' is already a data field, so it cannot be set as metainfo")
            self._meta[name] = value
        elif name in self._meta:
            raise ArgumentError(
                f"'{name}' is already a metainfo field, so it cannot be set as data",
                notes=["Use set_metainfo() to change it."],
            )
        else:
            object.__setattr__(self, name, value)  # calls the setter where the class has a property of this name

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the field `key` of either kind, or `default`."""
        return getattr(self, key, default) if key in self else default

    def pop(self, key: str, default: Any = _ABSENT) -> Any:
        """Removes the field `key` of either kind and returns its value.

        Raises:
            KeyError: The field does not exist and no default was given.
        """
        if key not in self:
            if default is _ABSENT:
                raise KeyError(f"no field '{key}'")
            return default
        value = getattr(self, key)
        delattr(self, key)
        return value

    def keys(self) -> list[str]:
        """Returns the names of the data fields, in the order in which they were set."""
        return [self._public_name(name) for name in self.__dict__]

    def values(self) -> list[Any]:
        """Returns the values of the data fields."""
        return list(self.__dict__.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the data fields."""
        return zip(self.keys(), self.values(), strict=True)

    def metainfo_keys(self) -> list[str]:
        """Returns the names of the metainfo fields."""
        return list(self._meta)

    def metainfo_values(self) -> list[Any]:
        """Returns the values of the metainfo fields."""
        return list(self._meta.values())

    def metainfo_items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the metainfo fields."""
        return iter(self._meta.items())

    def __contains__(self, key: str) -> bool:
        return key in self.__dict__ or key in self._meta or key in self.keys()

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for names that are not data. `_meta` itself is missing during unpickling.
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
        object.__setattr__(self, "_meta", dict(state["metainfo"]))  # so that shallow copies do not share their metainfo
        self.__dict__.update(state["data"])

    def _public_name(self, name: str) -> str:
        """Returns the name of the property that stores its value as `name`, or else `name`."""
        public = name[1:]
        return public if name[0] == "_" and isinstance(getattr(type(self), public, None), property) else name


def _type_names(dtype: type | tuple[type, ...]) -> str:
    kinds = dtype if isinstance(dtype, tuple) else (dtype,)
    return " or ".join(kind.__name__ for kind in kinds)
