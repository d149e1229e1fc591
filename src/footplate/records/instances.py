"""Objects of a run that any part may ask for by name, or as the current one."""

from typing import Any, ClassVar, TypeVar

_Self = TypeVar("_Self", bound="Instances")


class Instances:
    """Keeps the instances of a class by name; `get_current_instance` gives the one made last.

    Args:
        name: The name of this instance.
    """

    _instances: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A family of classes (a visualizer and its subclasses) shares one table.
        if Instances in cls.__bases__:
            cls._instances = {}

    def __init__(self, name: str = "") -> None:
        self._name = name

    @property
    def instance_name(self) -> str:
        """The name this instance is known by."""
        return self._name

    @classmethod
    def get_instance(cls: type[_Self], name: str, **kwargs: Any) -> _Self:
        """Returns the instance called `name`, made with `kwargs` if there is none yet."""
        if name not in cls._instances:
            cls._instances[name] = cls(name=name, **kwargs)
        instance: _Self = cls._instances[name]
        return instance

    @classmethod
    def get_current_instance(cls: type[_Self]) -> _Self:
        """Returns the instance made last; makes one called as the class when there is none."""
        if not cls._instances:
            return cls.get_instance(cls.__name__)
        instance: _Self = next(reversed(cls._instances.values()))
        return instance

    @classmethod
    def check_instance_created(cls, name: str) -> bool:
        """Checks whether there is an instance called `name`."""
        return name in cls._instances

    @classmethod
    def keep_instance(cls, instance: Any) -> None:
        """Makes `instance` the current one, in place of any other of its name."""
        cls._instances.pop(instance.instance_name, None)
        cls._instances[instance.instance_name] = instance
