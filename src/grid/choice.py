"""Classes that are chosen by the name of their file: to add one is to add a file to a folder."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Self, TypeVar

from src.grid.errors import ConfigError

T = TypeVar("T")


def names(package: str) -> list[str]:
    """Names of the files of a package, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))


def class_named(package: str, name: Any, base: type[T], setting: str, also: str = "") -> type[T]:
    """The one subclass of `base` in the file NAME.py of a package.

    setting: what names it, for the message; `also`: what else the setting may be. Raises ConfigError, one line with the
    names there are, for another name.
    """
    if name not in names(package):
        raise ConfigError(f"{setting} is {name!r}; it must be {also}one of {', '.join(names(package))}")
    module = importlib.import_module(f"{package}.{name}")
    (kind,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    )
    return kind


class Choice:
    """Settings that come in several classes, one a file. A subclass with a `folder` is what one chooses from, and its
    own subclasses, in the files of that folder, are what can be chosen."""

    folder: ClassVar[str]
    """The package, such as src.speech.vocoders."""
    key: ClassVar[str]
    """The field that names the file."""

    @classmethod
    def chosen(cls, values: Mapping[str, Any], where: str) -> type[Self]:
        """The class that the settings name. where: their section, for messages. Raises ConfigError."""
        (field,) = (field for field in fields(cls) if field.name == cls.key)  # type: ignore[arg-type]
        name = values.get(cls.key, None if field.default is MISSING else field.default)
        return class_named(cls.folder, name, cls, f"{where}.{cls.key}" if where else cls.key)

    def check_file(self) -> None:
        """Raise ValueError where the settings name another file than that of their class."""
        name, file = getattr(self, self.key), type(self).__module__.rpartition(".")[2]
        if name != file:
            raise ValueError(f"{self.key} is {name!r}; it must be {file}, the file of {type(self).__name__}")
