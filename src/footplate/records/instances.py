"""A base class whose instances can be accessed globally by name, or as the current instance."""

from typing import Any, ClassVar, TypeVar

_Self = TypeVar("_Self", bound="Instances")


class Instances:
    """Stores the instances of a class by name; the latest one is the current instance.

    Args:
        name: The name of this instance.
    """

    _instances: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class and its subclasses, such as visualizers, share one table.
        if Instances in cls.__bases__:
            cls._instances = {}

    def __init__(self, name: str = "") -> None:
        self._name = name

    @property
    def instance_name(self) -> str:
        """The name of the instance."""
        return self._name

    @classmethod
    def get_instance(cls: type[_Self], name: str, **kwargs: Any) -> _Self:
        """Returns the instance named `name`; creates it with `kwargs` if it does not exist."""
        if name not in cls._instances:
            cls._instances[name] = cls(name=name, **kwargs)
        instance: _Self = cls._instances[name]
        return instance

    @classmethod
    def get_current_instance(cls: type[_Self]) -> _Self:
        """Returns the latest instance; creates one with the name of the class if there are no instances."""
        if not cls._instances:
            return cls.get_instance(cls.__name__)
        instance: _Self = next(reversed(cls._instances.values()))
        return instance

    @classmethod
    def check_instance_created(cls, name: str) -> bool:
        """Checks whether an instance named `name` exists."""
        return name in cls._instances

    @classmethod
    def keep_instance(cls, instance: Any) -> None:
        """Makes `instance` the current one and replaces an instance of the same name."""
        cls._instances.pop(instance.instance_name, None)
        cls._instances[instance.instance_name] = instance
