"""The errors that a user meets. Each message names what is wrong and what would be right."""

from hydra.errors import CompactHydraException


class ConfigError(CompactHydraException):
    """A setting is wrong. Hydra prints the message alone and exits with code 1."""


class PlanError(CompactHydraException):
    """A frozen plan cannot be used: it is unreadable, or was made for other versions of the steps."""


class StepError(Exception):
    """A step cannot be run or published as it is (an input is missing, a rank died, the lease was lost)."""
