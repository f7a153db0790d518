"""A step: one unit of work with one result, and its identity.

A kind of step is a subclass of Step in a file of its own: a frozen dataclass. Its fields are its settings (plain
values, and dataclasses of them) and its inputs (other steps, or mappings of a name to a step). `run` computes it.

The fingerprint is the SHA-256 of the kind, its version, every setting that is not at its default, and the fingerprints
of the inputs. So a new setting with a neutral default leaves every artifact where it is. A default that is changed
changes the meaning of old artifacts: raise the version then.
"""

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from src.grid.errors import PlanError
from src.grid.typed import plain, typed

if TYPE_CHECKING:
    from src.grid.context import Context

Inputs = Mapping["Step", Path]
"""Each input step of a step, and the folder of its artifact."""


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces. NaN and non-JSON types raise."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Step(ABC):
    """One node of the plan. Two steps of equal fingerprint are the same step."""

    version: ClassVar[int] = 1
    """Raised when the meaning of a result changes: it is part of the fingerprint."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Slow imports of `run`, loaded once for all worker processes of a plan."""
    gpu: ClassVar[bool] = False
    """Whether `run` computes with a model, on a GPU for each rank where there are some. Other steps see no GPU."""

    @abstractmethod
    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        """Compute the step: read the artifact folders of the inputs, write files into the empty folder `out`.

        Returns a small summary for the manifest, of JSON types.
        """

    @property
    def label(self) -> str:
        """Readable beginning of the artifact's name."""
        return self.kind

    @property
    def ranks(self) -> int:
        """Processes that compute the step together."""
        return 1

    @property
    def alone(self) -> bool:
        """Whether no other step that is `alone` may run beside it on one machine, because of its memory."""
        return False

    @property
    def plugins(self) -> tuple[str, ...]:
        """Modules that `run` finds by name, and so does not import where its source could be followed."""
        return ()

    @property
    def kind(self) -> str:
        """Name of the kind: the name of the file that defines it."""
        return type(self).__module__.rpartition(".")[2]

    @cached_property
    def inputs(self) -> Mapping[str, "Step"]:
        """Role -> input step. The role of an input is its field; in a mapping, the field, a dot and the key."""
        found: dict[str, Step] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Step):
                found[field.name] = value
            elif _holds_steps(value):
                found.update({f"{field.name}.{key}": step for key, step in value.items()})
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that are not at their default, as JSON types."""
        return {
            name: value
            for name, value in plain(self, skip_defaults=True, leaf=Step).items()
            if not isinstance(value, Step) and not _holds_steps(value)
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what determines the result."""
        identity = {
            "kind": self.kind,
            "version": self.version,
            "settings": self.settings,
            "inputs": {role: step.fingerprint for role, step in self.inputs.items()},
        }
        return hashlib.sha256(canonical(identity).encode()).hexdigest()

    @cached_property
    def name(self) -> str:
        """Name of the artifact's folder in the store."""
        return f"{self.label}-{self.fingerprint[:8]}"

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self.fingerprint == other.fingerprint

    def record(self) -> dict[str, Any]:
        """What `read` makes this step of again."""
        inputs = {role: step.name for role, step in self.inputs.items()}
        where = f"{type(self).__module__}:{type(self).__qualname__}"
        return {"class": where, "kind": self.kind, "version": self.version, "settings": self.settings, "inputs": inputs}


def read(record: Mapping[str, Any], steps: Mapping[str, Step]) -> Step:
    """The step of a record. steps: name -> step, of at least its inputs.

    Raises PlanError where this code has no such kind, or has it in another version or with other settings.
    """
    module, _, name = str(record["class"]).partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PlanError(f"this code has no step {record['kind']} ({record['class']}): launch the grid again") from error
    if not (isinstance(kind, type) and issubclass(kind, Step)):
        raise PlanError(f"{record['class']} is no kind of step")
    if kind.version != record["version"]:
        raise PlanError(
            f"the plan was made with version {record['version']} of {record['kind']}, and this code has version "
            f"{kind.version}: launch the grid again"
        )
    values = dict(record["settings"])
    for role, source in record["inputs"].items():
        field, _, key = role.partition(".")
        if key:
            values.setdefault(field, {})[key] = steps[source]
        else:
            values[field] = steps[source]
    made: Step = typed(kind, values, record["kind"])
    return made


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


def _holds_steps(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, Step) for one in value.values())
