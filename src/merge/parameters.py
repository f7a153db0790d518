"""mergekit's parameters as plain data, typed as mergekit types them, before anything is trained.

A parameter is one value, a list of values from the first layer to the last (a gradient, between whose numbers mergekit
interpolates), `{filter: PART, value: ...}` for tensors whose names contain PART, or a list of these, of which the
first that fits counts. Imports no torch.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from src.grid.typed import WORDS


@dataclass(frozen=True)
class Parameter:
    """The values that a parameter may have."""

    kind: type = float
    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    """Whether it must be above `least`; else it may be as small."""

    @property
    def words(self) -> str:
        """What is right."""
        least = "" if self.least == -math.inf else f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        most = "" if self.most == math.inf else f"at most {self.most:g}"
        return WORDS[self.kind] + ": " * bool(least or most) + " and ".join(filter(None, (least, most)))

    def read(self, value: Any) -> Any:
        """One value. Raises ValueError where it is none, or out of bounds."""
        number = READERS[self.kind](value)
        if not math.isfinite(number) or not self.least <= number <= self.most or (self.above and number <= self.least):
            raise ValueError
        return number


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return float(value)


def _int(value: Any) -> int:
    number = _float(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _bool(value: Any) -> bool:
    text = str(value).lower()
    if text not in TRUE + FALSE:
        raise ValueError
    return text in TRUE


READERS = {float: _float, int: _int, bool: _bool}
TRUE, FALSE = ("true", "yes", "on", "y", "t", "1", "1.0"), ("false", "no", "off", "n", "f", "0", "0.0")
"""What mergekit takes for true and false."""

_SWITCH, _SHARE = Parameter(bool), Parameter(least=0, most=1)
PARAMETERS = {
    "alpha": Parameter(least=0),
    "density": Parameter(least=0, most=1, above=True),
    "eps": Parameter(least=0, above=True),
    "epsilon": Parameter(least=0),
    "filter_wise": _SWITCH,
    "gamma": _SHARE,
    "int8_mask": _SWITCH,
    "lambda": Parameter(),
    "max_iter": Parameter(int, least=1),
    "normalize": _SWITCH,
    "normalize_weights": _SWITCH,
    "nuslerp_flatten": _SWITCH,
    "nuslerp_row_wise": _SWITCH,
    "r": Parameter(least=0),
    "rescale": _SWITCH,
    "scale": Parameter(),
    "select_topk": Parameter(least=0, most=1, above=True),
    "t": _SHARE,
    "tol": Parameter(least=0, above=True),
    "weight": Parameter(),
}
"""Parameters of mergekit's methods. One name means values of one kind in all methods that have it."""


def read(name: str, value: Any, where: str) -> Any:
    """The value of the parameter `name`, with numbers and switches of their types.

    where: the setting, for messages. Raises ValueError, one line, for a value that mergekit would refuse, or take for
    something else than it says.
    """
    if isinstance(value, Mapping):
        return _filtered(name, value, where)
    if _is_list(value) and any(isinstance(one, Mapping) for one in value):
        return [_filtered(name, one, f"{where}[{i}]") for i, one in enumerate(value)]
    return _plain(name, value, where)


def _plain(name: str, value: Any, where: str) -> Any:
    """One value, or a gradient."""
    parameter = PARAMETERS[name]
    try:
        if not _is_list(value):
            return parameter.read(value)
        if not value:
            raise ValueError
        return [parameter.read(one) for one in value]
    except (ValueError, OverflowError):
        shown = list(value) if _is_list(value) else value
        raise ValueError(f"{where} is {shown!r}; it must be {parameter.words}, or a list of such") from None


def _filtered(name: str, given: Any, where: str) -> dict[str, Any]:
    """A value for the tensors that a filter names."""
    if not isinstance(given, Mapping) or not {"value"} <= given.keys() <= {"value", "filter"}:
        raise ValueError(f"{where} is {given!r}; it must be {{filter: PART OF A TENSOR'S NAME, value: ..}}")
    part, value = given.get("filter"), _plain(name, given["value"], f"{where}.value")
    if part is None:
        return {"value": value}
    if not isinstance(part, str) or not part:
        raise ValueError(f"{where}.filter is {part!r}; it must be a part of a tensor's name, or null for all tensors")
    return {"value": value, "filter": part}


def covers(value: Any) -> bool:
    """Whether a parameter that was read has a value for every tensor."""
    parts = [value] if isinstance(value, Mapping) else value if _is_list(value) else []
    filtered = [part for part in parts if isinstance(part, Mapping)]
    return not filtered or any(part.get("filter", "*") == "*" for part in filtered)


def values(value: Any) -> Iterator[Any]:
    """Every single value of a parameter that was read."""
    if isinstance(value, Mapping):
        yield from values(value["value"])
    elif _is_list(value):
        for one in value:
            yield from values(one)
    else:
        yield value


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
