"""What mergekit 0.1.5 can do, as plain data: a plan is checked against it without importing torch or mergekit.

`tests/merge/test_methods.py` holds this table against mergekit's own registry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Literal

from src.checks import require, seed
from src.grid.errors import ConfigError
from src.merge import parameters


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
        seed(self)
        if self.method is None:
            require(not self.models, "method", None, "one of " + ", ".join(METHODS) + ", or merge=none")
            return
        if self.method in METHODS and self.method != "passthrough":
            require(len(self.roles) >= 2, "models", list(self.models), f"at least two models for {self.method}")
        try:
            typed = check(asdict(self))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        for name in ("models", "parameters"):
            object.__setattr__(self, name, typed[name])


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """Hold a merge's config against its method; the config with its parameters typed as mergekit types them.

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
    shared = _read("merge.parameters", config["parameters"], known, f"{name} has no such parameter")
    unknown = f"{name} has no such parameter of a model"
    own = {role: _read(f"merge.models.{role}", given, method.per_model, unknown) for role, given in models.items()}
    for key in method.required:
        if key in method.shared:
            _settled(f"merge.parameters.{key}", [shared.get(key)], f"{name} needs it")
            continue
        for role in dict.fromkeys([*([base] if base is not None else []), *own]):
            if role != base or method.base == "ignored":
                given = [own.get(role, {}).get(key), shared.get(key)]
                _settled(f"merge.models.{role}.{key}", given, f"{name} needs it for every model")
    _check_sums(name, shared, own)
    return {**config, "parameters": shared, "models": own}


def _check_sums(name: str, shared: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse parameters that are right one by one, and together are not."""
    given = lambda key, default: [model.get(key, shared.get(key, default)) for model in own.values()]  # noqa: E731
    weights = given("weight", None)
    divides = name == "multislerp" and shared.get("normalize_weights", True) is True
    plain = all(isinstance(weight, float) for weight in weights)
    if (name == "linear" or divides) and plain and abs(sum(weights)) < 1e-8:
        raise ValueError(f"merge.models: the weights sum to 0, and {name} makes no model of that")
    if name not in ("della", "della_linear"):
        return
    for role, density, epsilon in zip(own, given("density", 1.0), given("epsilon", 0.15), strict=True):
        for d, e in product(parameters.values(density), parameters.values(epsilon)):
            if d < 1 and not e < d < 1 - e:
                right = f"{name} takes a density above epsilon={e:g} and below {1 - e:g}, or 1"
                raise ValueError(f"merge.models.{role}.density is {d:g}; {right}")


def _settled(where: str, given: Sequence[Any], needed: str) -> None:
    """Require a value for every tensor. given: what is written, the model's own before the merge's."""
    found = [value for value in given if value is not None]
    if not found:
        raise ValueError(f"{where} is not set; {needed}")
    if not any(parameters.covers(value) for value in found):
        raise ValueError(f"{where} has a value for filtered tensors alone; add {{value: ..}} for the others")


def _read(where: str, given: Mapping[str, Any], known: tuple[str, ...], unknown: str) -> dict[str, Any]:
    for key in given:
        if key not in known:
            raise ValueError(f"{where}.{key}: {unknown}; {_listing(known)}")
    return {key: parameters.read(key, value, f"{where}.{key}") for key, value in given.items()}


def _listing(names: tuple[str, ...]) -> str:
    return f"allowed: {', '.join(names)}" if names else "it takes none"


def _count(name: str, what: str, count: int, least: int, most: int | None) -> None:
    if count < least or (most is not None and count > most):
        wanted = f"exactly {least}" if least == most else f"at least {least}" if count < least else f"at most {most}"
        raise ValueError(f"merge.models: {name} takes {wanted}, {what}; here {count}")
