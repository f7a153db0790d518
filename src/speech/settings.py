"""A component's settings: from a plain mapping to its frozen dataclass, with one clear line when they do not fit."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


def read_settings(kind: type[Settings], mapping: Mapping[str, Any], where: str) -> Settings:
    """`kind(**mapping)`, raising ValueError for a name that `kind` lacks or a required one that is missing.

    `where` names the group of settings in messages ("vocoder").
    """
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(mapping) - known):
        raise ValueError(f"{where}.{unknown[0]} is no setting; {where} has {', '.join(sorted(known))}")
    required = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    if missing := sorted(required - set(mapping)):
        raise ValueError(f"{where}.{missing[0]} must be given")
    return kind(**mapping)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError("<name> = <value>: must be <expected>") unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name} = {value!r}: must be {expected}")
