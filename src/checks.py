"""Checks of settings. Each raises ValueError, one line that begins with the setting's own name; who reads the settings
(src/grid/typed.py) puts the section before it. Imports nothing heavy: a plan is checked with them."""

from typing import Any

from src.grid.errors import ConfigError


def require(condition: bool, name: str, value: Any, right: str) -> None:
    """Raise ValueError("<name> is <value>; it must be <right>") unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {right}")


def positive(settings: Any, *names: str) -> None:
    """Require that these fields are above 0, or None."""
    for name in names:
        value = getattr(settings, name)
        require(value is None or value > 0, name, value, "greater than 0")


def share(settings: Any, *names: str) -> None:
    """Require that these fields lie between 0 and 1."""
    for name in names:
        value = getattr(settings, name)
        require(0 <= value <= 1, name, value, "between 0 and 1")


def seed(settings: Any, name: str = "seed") -> None:
    """Require what every generator of random numbers takes: numpy's and scikit-learn's have 32 bits."""
    value = getattr(settings, name)
    require(0 <= value < 2**32, name, value, f"from 0 to {2**32 - 1}")


def check_setting(condition: bool, name: str, value: Any, right: str) -> None:
    """The same outside of a class of settings: raise ConfigError. name: the whole name, as a user writes it."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; it must be {right}")
