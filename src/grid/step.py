"""A step: one unit of work with one result, and its identity.

The fingerprint is the SHA-256 of kind, version of the kind, whole resolved configuration, and the fingerprints of the
inputs. Labels, estimates and the number of processes do not change the result and are not part of it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from src.grid.bodies import BODIES


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces. NaN and non-JSON types raise."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Step:
    """One node of the plan. Two steps of equal fingerprint are the same step."""

    kind: str
    """A key of BODIES."""
    label: str
    """Readable prefix of the artifact's folder, a function of kind and config. Not hashed."""
    config: Mapping[str, Any]
    """Everything that changes the result, resolved and JSON-able."""
    inputs: Mapping[str, "Step"] = field(default_factory=dict)
    """Role -> step whose artifact this one reads."""
    seconds: float = 0.0
    """Estimate for the plan. Not hashed."""
    megabytes: float = 0.0
    """Estimate of the artifact's size for the plan. Not hashed."""
    ranks: int = 1
    """Processes that compute it together. Not hashed."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what determines the result."""
        identity = {
            "kind": self.kind,
            "version": BODIES[self.kind].version,
            "config": self.config,
            "inputs": {role: step.fingerprint for role, step in self.inputs.items()},
        }
        return hashlib.sha256(canonical(identity).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the artifact's folder in the store."""
        return f"{self.label}-{self.fingerprint[:8]}"

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self.fingerprint == other.fingerprint


def closure(steps: Iterable[Step]) -> Iterator[Step]:
    """The distinct steps that `steps` need, themselves included, inputs before what reads them."""
    seen: set[str] = set()

    def visit(step: Step) -> Iterator[Step]:
        if step.fingerprint in seen:
            return
        seen.add(step.fingerprint)
        for _, source in sorted(step.inputs.items()):
            yield from visit(source)
        yield step

    for step in steps:
        yield from visit(step)
