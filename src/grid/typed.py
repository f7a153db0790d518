"""Plain values (of YAML, of JSON) to typed dataclasses, and back.

A class of settings is declared once, beside the code that reads it. Its `__post_init__` may raise a ValueError that
begins with the name of one of its fields. `typed` puts the section before it: the message then names the setting as a
user writes it.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from src.grid.choice import Choice
from src.grid.errors import ConfigError

T = TypeVar("T")

WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def typed(kind: type[T], value: Any, where: str = "") -> T:
    """`value` as a `kind`: a dataclass from a mapping, a list, tuple or mapping of typed members, or a plain type.

    where: the section, for messages ("train"). Raises ConfigError, one line that names the setting, for a field that is
    unknown, missing or of another type, and for what a `__post_init__` refuses.
    """
    made: T = _convert(kind, value, where)
    return made


def plain(value: Any, skip_defaults: bool = False, leaf: type | tuple[type, ...] = ()) -> Any:
    """Dataclasses, tuples and mappings as dicts and lists of JSON types.

    skip_defaults: leave out fields of dataclasses that have their default. leaf: classes that stay as they are, except
    for `value` itself.
    """

    def inner(one: Any) -> Any:
        return one if leaf and isinstance(one, leaf) else plain(one, skip_defaults, leaf)

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: inner(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (skip_defaults and _is_default(field, getattr(value, field.name)))
        }
    if isinstance(value, Mapping):
        return {str(key): inner(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [inner(one) for one in value]
    return value


def unknown(name: str, known: Mapping[str, Any]) -> str:
    """One line on a setting that does not exist: which ones have a similar name, or else what stands in its place."""
    names = [other for other in _names(known, "") if not name.startswith(f"{other}.")]
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.7):
        return f"{name} is no setting; did you mean {' or '.join(close)}?"
    section: Any = known
    path: list[str] = []
    for part in name.split("."):
        if not isinstance(section.get(part), Mapping):
            break
        section = section[part]
        path.append(part)
    return f"{name} is no setting; {'.'.join(path) or 'a cell'} has {', '.join(map(str, section))}"


def _names(settings: Mapping[str, Any], section: str) -> Iterator[str]:
    for key, value in settings.items():
        name = f"{section}.{key}" if section else str(key)
        yield name
        if isinstance(value, Mapping):
            yield from _names(value, name)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(kind, value, where)
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise _wrong(where, value, "one of " + ", ".join(map(str, choices)))
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is tuple or origin in (list, Sequence):
        members = [member for member in typing.get_args(kind) if member is not Ellipsis] or [Any]
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _wrong(where, value, "a list in brackets, [a, b]")
        fixed = origin is tuple and Ellipsis not in typing.get_args(kind)
        if fixed and len(value) != len(members):
            raise _wrong(where, list(value), f"a list of {len(members)}")
        made = [_convert(members[i] if fixed else members[0], one, f"{where}[{i}]") for i, one in enumerate(value)]
        return made if origin is list else tuple(made)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "settings in braces, {name: value}")
        _, member = typing.get_args(kind)
        return {str(key): _convert(member, one, _join(where, str(key))) for key, one in value.items()}
    return _simple(kind, value, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    declared = [field for field in dataclasses.fields(kind) if field.init]
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "the settings {" + ", ".join(f"{field.name}: .." for field in declared) + "}")
    if issubclass(kind, Choice) and "folder" in vars(kind):
        return _dataclass(kind.chosen(value, where), value, where)
    names = {field.name for field in declared}
    if strange := [str(key) for key in value if key not in names]:
        near = difflib.get_close_matches(strange[0], names, n=3, cutoff=0.6)
        meant = " or ".join(_join(where, name) for name in near)
        has = f"did you mean {meant}?" if near else f"there are {', '.join(sorted(names))}"
        raise ConfigError(f"{_join(where, strange[0])} is no setting; {has}")
    hints = _hints(kind)
    given = {}
    for field in declared:
        if field.name in value:
            given[field.name] = _convert(hints[field.name], value[field.name], _join(where, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(where, field.name)} is not set")
    try:
        return kind(**given)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(_join(where, str(error))) from error


def _one_of(kind: Any, value: Any, where: str) -> Any:
    choices = typing.get_args(kind)
    if value is None and types.NoneType in choices:
        return None
    rest = [choice for choice in choices if choice is not types.NoneType]
    if len(rest) > 1:
        for choice in rest:
            if isinstance(choice, type) and isinstance(value, choice) and not isinstance(value, bool):
                return value
    try:
        return _convert(rest[0], value, where)
    except ConfigError as error:
        if types.NoneType in choices and str(error).startswith(f"{where} is {value!r}; "):
            raise ConfigError(f"{error} or null") from None
        raise


def _simple(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind in (int, float) and isinstance(value, bool)):
        return value
    raise _wrong(where, value, WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}"))


def _wrong(where: str, value: Any, right: str) -> ConfigError:
    return ConfigError(f"{where} is {value!r}; it must be {right}")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_default(field: "dataclasses.Field[Any]", value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return type(value) is type(field.default) and bool(value == field.default)
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return False
