"""What mergekit 0.1.5 can do, as plain data: a plan is checked against it without importing torch or mergekit.

`tests/merge/test_methods.py` holds this table against mergekit's own registry.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from src.checks import require
from src.grid.errors import ConfigError


@dataclass(frozen=True)
class Method:
    """The inputs and parameters that a mergekit method takes."""

    base: Literal["required", "optional", "ignored"] = "required"
    """Whether a base model has to be named, may be named (the others are then differences to it), or counts as one
    model among the others."""
    least: int = 1
    """Fewest models, the base model among them."""
    most: int | None = None
    others: tuple[int, int | None] | None = None
    """Fewest and most models besides the base model, where that is limited too."""
    shared: tuple[str, ...] = ()
    """Parameters of the merge."""
    per_model: tuple[str, ...] = ()
    """Parameters of each model; given for the merge, they hold for every model."""
    required: tuple[str, ...] = ()


_DELTAS = ("int8_mask", "normalize", "rescale", "lambda")
_SPARSE = Method(shared=_DELTAS, per_model=("weight", "density"), required=("weight",))
_BREADCRUMBS = Method(shared=_DELTAS, per_model=("weight", "density", "gamma"), required=("weight",))
_DELLA = Method(shared=_DELTAS, per_model=("weight", "density", "epsilon"), required=("weight",))

TABLE = {
    "arcee_fusion": Method(least=2, most=2),
    "breadcrumbs": _BREADCRUMBS,
    "breadcrumbs_ties": _BREADCRUMBS,
    "dare_linear": _SPARSE,
    "dare_ties": _SPARSE,
    "della": _DELLA,
    "della_linear": _DELLA,
    "karcher": Method(base="ignored", shared=("max_iter", "tol")),
    "linear": Method(base="ignored", shared=("normalize",), per_model=("weight",), required=("weight",)),
    "model_stock": Method(least=3, shared=("filter_wise",)),
    "multislerp": Method(
        base="optional",
        others=(1, None),
        shared=("normalize_weights", "eps"),
        per_model=("weight",),
        required=("weight",),
    ),
    "nearswap": Method(least=2, most=2, shared=("t",), required=("t",)),
    "nuslerp": Method(
        base="optional",
        others=(2, 2),
        shared=("nuslerp_row_wise", "nuslerp_flatten"),
        per_model=("weight",),
        required=("weight",),
    ),
    "passthrough": Method(base="ignored", most=1, per_model=("scale",)),
    "ram": Method(shared=("epsilon",)),
    "ramplus_tl": Method(shared=("r", "alpha", "epsilon")),
    "sce": Method(shared=("int8_mask", "select_topk")),
    "slerp": Method(least=2, most=2, shared=("t",), required=("t",)),
    "task_arithmetic": _SPARSE,
    "ties": _SPARSE,
}
METHODS = tuple(TABLE)


@dataclass(frozen=True, kw_only=True)
class Merging:
    """A mergekit configuration with roles (base, and the names of stages) in place of paths."""

    method: str | None = None
    base_model: str | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that are merged, the base model among them where it is named."""
        return tuple(dict.fromkeys([*self.models, *([self.base_model] if self.base_model else [])]))

    def __post_init__(self) -> None:
        if self.method is None:
            return
        if self.method in METHODS and self.method != "passthrough":
            require(len(self.roles) >= 2, "models", list(self.models), f"at least two models for {self.method}")
        try:
            check(asdict(self))
        except ValueError as error:
            raise ConfigError(str(error)) from None


def check(config: Mapping[str, Any]) -> None:
    """Hold a merge's config against its method.

    Raises ValueError, one line that names the setting at fault, where mergekit would stop later or, for a misspelt
    parameter, would ignore it.
    """
    name, models, base = config["method"], config["models"], config["base_model"]
    if name not in TABLE:
        raise ValueError(f"merge.method={name}: mergekit has no such method; it has {', '.join(METHODS)}")
    method = TABLE[name]
    if method.base == "required" and base is None:
        raise ValueError(f"merge.base_model=null: {name} merges differences to a base model; name one, such as base")
    total = len({*models, *([base] if base is not None else [])})
    besides = len([role for role in models if role != base])
    _count(name, "with the base model", total, method.least, method.most)
    if method.others is not None:
        _count(name, "besides the base model", besides, *method.others)
    known = method.shared + method.per_model
    for key in config["parameters"]:
        if key not in known:
            raise ValueError(f"merge.parameters.{key}: {name} has no such parameter; {_listing(known)}")
    for role, parameters in models.items():
        for key in parameters:
            if key not in method.per_model:
                raise ValueError(
                    f"merge.models.{role}.{key}: {name} has no such parameter of a model; {_listing(method.per_model)}"
                )
        for key, value in parameters.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if key in ("weight", "density") and not number:
                raise ValueError(f"merge.models.{role}.{key} is {value!r}; it must be a number")
            if key == "density" and not 0 < value <= 1:
                raise ValueError(f"merge.models.{role}.density is {value}; it must be above 0 and at most 1")
    for key in method.required:
        if key in config["parameters"]:
            continue
        if key in method.shared:
            raise ValueError(f"merge.parameters.{key} is not set; {name} needs it")
        weighted = models if base is None else {base: {}, **models}
        for role, parameters in weighted.items():
            if key not in parameters and (role != base or method.base == "ignored"):
                raise ValueError(f"merge.models.{role}.{key} is not set; {name} needs it for every model")


def _listing(names: tuple[str, ...]) -> str:
    return f"allowed: {', '.join(names)}" if names else "it takes none"


def _count(name: str, what: str, count: int, least: int, most: int | None) -> None:
    if count < least or (most is not None and count > most):
        wanted = f"exactly {least}" if least == most else f"at least {least}" if count < least else f"at most {most}"
        raise ValueError(f"merge.models: {name} takes {wanted}, {what}; here {count}")
