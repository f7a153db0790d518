"""A composed Hydra configuration, typed: the `Cell`. Each section's class stands beside the code that reads it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import src.settings_files  # noqa: F401  before Hydra's own
from src import stages
from src.checks import require, seed
from src.data.settings import ClosedDomain, PublishedData
from src.evaluate.settings import Evaluate
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.machine.settings import Expected, ExpectedAnswers, Gpu
from src.merge.methods import Merging
from src.model.settings import PROJECTIONS, WHOLE_MODULES, Architecture, GivenModel, PublishedModel, ScratchModel
from src.one_line import one_line
from src.speech.published_settings import PretrainedSpeech
from src.speech.settings import FittedSpeech
from src.stages import Stage
from src.train.deepspeed_settings import check_deepspeed
from src.train.methods import Method, made_of
from src.train.settings import OWN_DEEPSPEED_KEYS


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a row is called; what it does stands under replay, merge, discount and method."""

    name: str
    label: str
    given: GivenModel | None = None
    """This row is a model that somebody has trained already: nothing is trained."""


@dataclass(frozen=True, kw_only=True)
class Discount:
    """A smaller LoRA scaling at evaluation than in training."""

    alpha: float | None = None
    """LoRA alpha at evaluation; null: the trained one."""


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """Where runs are logged."""

    mode: Literal["auto", "online", "offline", "disabled"]
    project: str | None = None
    """null: WANDB_PROJECT where it is set, else palimpsest."""
    entity: str | None = None
    """User or team; null: WANDB_ENTITY where it is set, else the account of the API key."""
    tags: tuple[str, ...] = ()
    """Tags of every run; none: those of WANDB_TAGS."""
    notes: str | None = None
    """Notes of every run; null: WANDB_NOTES where it is set."""

    def __post_init__(self) -> None:
        forbidden, project = "/\\#?%:", self.project
        right = "1 to 128 characters, none of them out of " + forbidden
        fit = project is None or (0 < len(project) <= 128 and not set(project) & set(forbidden))
        require(fit, "tracker.project", project, right)
        right = "1 to 64 characters, none of them a comma"
        for tag in self.tags:
            require(0 < len(tag) <= 64 and "," not in tag, "tracker.tags", tag, right)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fully resolved configuration."""

    profile: str
    seed: int
    outputs: str
    name: str | None = None
    """Folder of the grid under outputs/grids; null: made from its rows."""
    plan_only: bool = False
    recompute: tuple[str, ...] = ()
    """Kinds of steps to compute anew, with all that rests on them."""
    compare: tuple[str, ...] = ("none", "replay")
    """Strategies that the other rows are tested against."""
    strategy: Strategy
    data: ClosedDomain | PublishedData
    speech: FittedSpeech | PretrainedSpeech
    model: ScratchModel | PublishedModel
    chain: tuple[Stage, ...]
    """The stages of the training, in order, each with all of its settings."""
    method: Method | None
    """What changes the training itself."""
    merge: Merging
    discount: Discount
    evaluate: Evaluate
    deepspeed: Mapping[str, Any]
    """DeepSpeed's own configuration."""
    tracker: Tracker
    estimate: Mapping[str, tuple[float, float]]
    """Kind or label of a step -> seconds, megabytes, for the plan; the store's own measurements come first."""
    gpu: Gpu | None = None
    """What one training process has; null: not known."""
    expected: Mapping[str, Expected] = field(default_factory=dict)
    """Set -> its sizes, for the plan of a published model."""
    expected_answers: Mapping[str, ExpectedAnswers] = field(default_factory=dict)
    """Task -> what the plan assumes of it, to tell how long answering takes."""
    original: bool = False
    """This row is the base model itself: nothing is trained."""

    def __post_init__(self) -> None:
        seed(self)
        for key in OWN_DEEPSPEED_KEYS:
            require(key not in self.deepspeed, f"deepspeed.{key}", self.deepspeed.get(key), "left out: train sets it")
        check_deepspeed(self.deepspeed)
        alpha, trained = self.discount.alpha, self.chain[0].adapter.alpha
        right = f"between 0 and the trained alpha, train.adapter.alpha={trained:g}, or null"
        require(alpha is None or 0 <= alpha <= trained, "discount.alpha", alpha, right)
        roles = ["base", *(stage.name for stage in self.chain)]
        if self.trained and self.merge.method is not None:
            base = self.merge.base_model
            require(base is None or base in roles, "merge.base_model", base, "out of " + ", ".join(roles))
            for role in self.merge.models:
                right = "out of " + ", ".join(roles) + f" (~merge.models.{role} leaves it out)"
                require(role in roles, "merge.models", role, right)

    def check_sizes(self, sizes: Architecture) -> None:
        """Hold what is trained and asked against the model that is made here. Raises ValueError."""
        longest, within = sizes.max_position_embeddings, "model.architecture.max_position_embeddings"
        lengths = {f"train.stages.{stage.name}.max_length": stage.optimization.max_length for stage in self.chain}
        answers = {f"evaluate.max_new_tokens.{task}": most for task, most in self.evaluate.max_new_tokens.items()}
        for name, length in (lengths | answers).items():
            require(length <= longest, name, length, f"at most {within}={longest}")
        for stage in self.chain:
            for name in stage.adapter.full_modules:
                require(name in WHOLE_MODULES, "train.adapter.full_modules", name, "out of " + ", ".join(WHOLE_MODULES))
            layers, right = stage.adapter.full_last_layers, f"at most {sizes.num_hidden_layers}, the model's layers"
            require(layers <= sizes.num_hidden_layers, "train.adapter.full_last_layers", layers, right)

    @property
    def trained(self) -> bool:
        """Whether this row's model is made by training."""
        return not self.original and self.strategy.given is None


VARIANTS: dict[str, dict[str, type]] = {
    "data": {"closed_domain": ClosedDomain, "published": PublishedData},
    "speech": {"fitted": FittedSpeech, "pretrained": PretrainedSpeech},
    "model": {"scratch": ScratchModel, "pretrained": PublishedModel},
}
"""Section -> its `name` -> the settings."""


def compose(load: Callable[[list[str]], DictConfig], overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes from the overrides. Raises ConfigError, one line, for what is wrong with them.

    load: composes a cell from overrides.
    """
    try:
        return load(list(overrides))
    except (HydraException, ValueError) as error:
        fault = error

    def settings(wrong: str) -> Mapping[str, Any]:
        rest = [text for text in overrides if text.partition("=")[0].lstrip("+~") != wrong]
        if len(rest) == len(overrides):
            raise fault
        found: Any = OmegaConf.to_container(compose(load, rest), resolve=False)
        return dict(found)

    line = one_line(fault, overrides, settings)
    if line is None:
        raise fault
    raise ConfigError(line)


def cell(composed: DictConfig) -> tuple[Cell, dict[str, Any]]:
    """A composed configuration, checked and typed, and as plain values. Raises ConfigError."""
    bare = OmegaConf.create({key: composed._get_node(key) for key in composed if key != "hydra"})
    try:
        values: Any = OmegaConf.to_container(bare, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    _check_numbers(values, "")
    try:
        for section in ("data", "speech", "model", "train", "replay", "deepspeed"):
            require(isinstance(values.get(section), Mapping), section, values.get(section), "a group of settings")
        common = {"seed": values["seed"], "deepspeed": values["deepspeed"]}
        if isinstance(values.get("recompute"), str):  # recompute=train, without brackets
            values["recompute"] = [values["recompute"]]
        tracker = values.get("tracker")
        if isinstance(tracker, dict) and isinstance(tracker.get("tags"), str):
            tracker["tags"] = [tracker["tags"]]
        given = {key: value for key, value in values.items() if key not in ("train", "replay")}
        given |= {section: _variant(section, values[section]) for section in VARIANTS}
        method = values.get("method") or {}
        given["method"] = made_of(method) if method.get("name") is not None else None
        given["chain"] = tuple(stages.chain(values["train"], values["replay"], common))
        made = typed(Cell, given)
        _check_together(made, values["replay"])
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return made, values


def _variant(section: str, values: Mapping[str, Any]) -> Any:
    variants, name = VARIANTS[section], values.get("name")
    require(name in variants, f"{section}.name", name, " or ".join(variants))
    return typed(variants[str(name)], values, section)


def _check_together(made: Cell, replay: Mapping[str, Any]) -> None:
    published = made.data.name == "published"
    wanted = "pretrained" if published else "fitted"
    require(made.speech.name == wanted, "speech.name", made.speech.name, f"{wanted} with data.name={made.data.name}")
    scratch = made.model.name == "scratch"
    require(not (published and scratch), "model.name", "scratch", "pretrained with data.name=published")
    if isinstance(made.data, PublishedData) and isinstance(made.speech, PretrainedSpeech) and made.data.units:
        centroids = made.speech.quantizer.centroids
        right = "those that the units of data.units were made with"
        require(centroids is not None, "speech.quantizer.centroids", centroids, right)
    if isinstance(made.model, ScratchModel):
        made.check_sizes(made.model.architecture)
    for stage in made.chain:
        targets = stage.adapter.target_modules
        require(bool(targets), "train.adapter.target_modules", [], "at least one of " + ", ".join(PROJECTIONS))
        pool = stage.replay.pool
        require(not published or pool == "honest", "replay.pool", pool, "honest with data.name=published")
    if not made.trained:
        changed = {
            "replay.enabled": replay.get("enabled"),
            "merge.method": made.merge.method,
            "discount.alpha": made.discount.alpha,
            "method.name": made.method and made.method.name,
        }
        told = [f"{key}={value}" for key, value in changed.items() if value not in (None, False)]
        right = "without: nothing is trained that could be replayed, merged, discounted or changed"
        what = "strategy=original" if made.original else "strategy.given"
        require(not told, f"{what} with " + ", ".join(told), True, right)
        require(not (made.original and made.strategy.given), "original with strategy.given", True, "one of the two")


def local_paths(settings: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Path]]:
    """(setting, path) of every file or folder that a cell's settings name: those called `path`, and whatever is written
    as an absolute path or begins with a dot or a tilde."""
    for key, value in settings.items():
        name = f"{section}.{key}" if section else key
        if isinstance(value, Mapping):
            yield from local_paths(value, name)
        elif isinstance(value, str) and (key == "path" or value.startswith(("/", "./", "../", "~"))):
            yield name, Path(value).expanduser()


def _check_numbers(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _check_numbers(inner, f"{key}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} is {value}; it must be a finite number")
