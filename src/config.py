"""Every setting, typed. A composed Hydra configuration becomes a `Cell` here, or one clear line says what is wrong."""

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

from hydra.errors import ConfigCompositionException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from src.data.settings import PublishedData
from src.evaluate.qa import RULES
from src.grid.arguments import unknown
from src.grid.errors import ConfigError
from src.merge import methods
from src.speech.pretrained import PretrainedSpeech
from src.speech.settings import QuantizerConfig, RecognizerConfig, SynthesizerConfig, UnitsConfig, VocoderConfig

T = TypeVar("T")


def require(condition: bool, setting: str, value: Any, right: str) -> None:
    """Raise ConfigError, one line that names the setting, its value and what would be right."""
    if not condition:
        raise ConfigError(f"{setting} is {value!r}; it must be {right}")


def positive(section: str, settings: Any, *names: str) -> None:
    for name in names:
        require(getattr(settings, name) > 0, f"{section}.{name}", getattr(settings, name), "greater than 0")


def share(section: str, settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(0 <= value <= 1, f"{section}.{name}", value, "between 0 and 1")


def batches(section: str, size: int | None, tokens: int | None) -> None:
    given = [number for number in (size, tokens) if number is not None]
    one = len(given) == 1 and given[0] > 0
    require(one, f"{section}.batch_size and batch_tokens", [size, tokens], "one positive number and one null")


@dataclass
class Strategy:
    """How a row is called; what it does stands under replay, merge and discount."""

    name: str = MISSING
    label: str = MISSING


@dataclass
class Data:
    """Sizes of the corpus (src/data/corpus.py)."""

    name: str = MISSING
    seed: int = MISSING
    evaluation_facts: int = MISSING
    base_texts: int = MISSING
    base_instruction_share: float = MISSING
    base_echo_share: float = MISSING
    base_spellings: int = MISSING
    turns: int = MISSING
    conversation_words: int = MISSING
    pool_texts: int = MISSING
    pool_instruction_share: float = MISSING
    asr_sentences: int = MISSING
    tts_sentences: int = MISSING
    sqa_questions: int = MISSING
    fit_utterances: int = MISSING
    evaluation_instructions: int = MISSING
    evaluation_sentences: int = MISSING

    def __post_init__(self) -> None:
        sizes = [f.name for f in dataclasses.fields(self) if f.type is int and f.name != "seed"]
        positive("data", self, *sizes)
        share("data", self, "base_instruction_share", "base_echo_share", "pool_instruction_share")
        require(
            self.tts_sentences <= self.asr_sentences,
            "data.tts_sentences",
            self.tts_sentences,
            f"at most data.asr_sentences={self.asr_sentences}, whose first sentences it takes",
        )
        require(self.evaluation_facts < 384, "data.evaluation_facts", self.evaluation_facts, "below 384, all there are")


@dataclass
class Architecture:
    """Sizes of the Llama, by LlamaConfig's own names."""

    hidden_size: int = MISSING
    intermediate_size: int = MISSING
    num_hidden_layers: int = MISSING
    num_attention_heads: int = MISSING
    num_key_value_heads: int = MISSING
    max_position_embeddings: int = MISSING
    rms_norm_eps: float = MISSING

    def __post_init__(self) -> None:
        positive("model.architecture", self, *(f.name for f in dataclasses.fields(self)))
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        divides = f"a divisor of model.architecture.hidden_size={self.hidden_size}"
        require(self.hidden_size % heads == 0, "model.architecture.num_attention_heads", heads, divides)
        right = f"a divisor of model.architecture.num_attention_heads={heads}"
        require(heads % shared == 0, "model.architecture.num_key_value_heads", shared, right)


@dataclass
class Optimizer:
    """AdamW and its schedule."""

    lr: float = MISSING
    warmup_ratio: float = MISSING
    min_lr_ratio: float = MISSING
    """Where the cosine ends, as a share of lr."""
    weight_decay: float = MISSING
    betas: list[float] = MISSING
    max_grad_norm: float = MISSING

    def check(self, section: str) -> None:
        positive(section, self, "lr", "max_grad_norm")
        share(section, self, "warmup_ratio", "min_lr_ratio")
        require(self.weight_decay >= 0, f"{section}.weight_decay", self.weight_decay, "at least 0")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(good, f"{section}.betas", list(self.betas), "two numbers of at least 0 and below 1")


@dataclass
class Pretrain(Optimizer):
    """How the base model is trained from scratch."""

    epochs: int = MISSING
    batch_tokens: int | None = MISSING
    batch_size: int | None = MISSING
    max_length: int = MISSING

    def __post_init__(self) -> None:
        self.check("model.pretrain")
        positive("model.pretrain", self, "epochs", "max_length")
        batches("model.pretrain", self.batch_size, self.batch_tokens)


@dataclass
class Model:
    """The base model, theta_0 of every merge, trained from scratch."""

    name: str = MISSING
    seed: int = MISSING
    architecture: Architecture = MISSING
    pretrain: Pretrain = MISSING

    def __post_init__(self) -> None:
        require(self.seed >= 0, "model.seed", self.seed, "at least 0")


@dataclass
class PretrainedModel:
    """The base model, theta_0 of every merge: a published text model whose vocabulary is extended by the units."""

    name: str = MISSING
    pretrained: str = MISSING
    """A repository of the Hugging Face hub, or a folder. Of Llama 3.2 Vision, the text part is taken."""
    revision: str | None = MISSING
    """Commit, tag or branch of the hub; of a folder, a label to be changed when its files are."""
    seed: int = MISSING
    """Of the new rows of embeddings and head."""
    initialization: str = MISSING
    """Of these rows: mean_covariance (as transformers does it) or mean (src/model/vocabulary.py)."""
    pad_to_multiple_of: int | None = MISSING
    """Rows of embeddings and head are filled up to a multiple of this."""
    architecture: dict[str, Any] | None = MISSING
    """Fields of the text model's configuration (transformers' names, model_type among them), so that a plan knows its
    sizes without a network; null: not known. The model that is fetched must agree."""
    text_tokens: int | None = MISSING
    """Tokens of its tokenizer, for the plan too; null: not known."""

    def __post_init__(self) -> None:
        require(bool(self.pretrained), "model.pretrained", self.pretrained, "a hub repository or a folder")
        require(self.seed >= 0, "model.seed", self.seed, "at least 0")
        ways = ("mean_covariance", "mean")
        require(self.initialization in ways, "model.initialization", self.initialization, " or ".join(ways))
        for name in ("pad_to_multiple_of", "text_tokens"):
            value = getattr(self, name)
            require(value is None or value > 0, f"model.{name}", value, "greater than 0, or null")
        known = self.architecture is None or "model_type" in self.architecture
        right = "a configuration with its model_type, or null"
        require(known, "model.architecture", list(self.architecture or ()), right)


PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama."""


@dataclass
class Adapter:
    """What is trained (src/model/adapter.py)."""

    r: int = MISSING
    alpha: float = MISSING
    dropout: float = MISSING
    target_modules: list[str] = MISSING
    full_modules: list[str] = MISSING
    full_projections: list[str] = MISSING
    full_last_layers: int = MISSING

    def __post_init__(self) -> None:
        positive("train.adapter", self, "r", "alpha")
        require(0 <= self.dropout < 1, "train.adapter.dropout", self.dropout, "at least 0 and below 1")
        for setting in ("target_modules", "full_projections"):
            for name in getattr(self, setting):
                require(name in PROJECTIONS, f"train.adapter.{setting}", name, "out of " + ", ".join(PROJECTIONS))
        require(self.full_last_layers >= 0, "train.adapter.full_last_layers", self.full_last_layers, "at least 0")


@dataclass
class Stage:
    epochs: int = MISSING
    max_length: int = MISSING
    """Tokens; longer examples are dropped and counted."""
    batch_size: int | None = None
    """Examples a batch; null where batch_tokens says it."""
    batch_tokens: int | None = None
    """Tokens a batch, padding included; null where batch_size says it."""
    lr: float | None = None
    """null: train.lr."""


@dataclass
class Train(Optimizer):
    ranks: int = MISSING
    """Processes that train one stage together. Part of the fingerprint: their sums round differently."""
    micro_batch_size: int | None = MISSING
    """Examples in the memory of one process at a time; gradients of a batch are accumulated. null: all of its share."""
    gradient_checkpointing: bool = MISSING
    """Activations are computed again in the backward pass: less memory, a third more time."""
    attention: str = MISSING
    """The implementation in transformers: sdpa, eager or flash_attention_2."""
    fused_loss: bool = MISSING
    """Head and cross-entropy in one kernel of Liger (the package liger-kernel, on a GPU)."""
    adapter: Adapter = MISSING
    stages: dict[str, Stage] = MISSING

    def __post_init__(self) -> None:
        self.check("train")
        positive("train", self, "ranks")
        micro = self.micro_batch_size
        require(micro is None or micro > 0, "train.micro_batch_size", micro, "greater than 0, or null")
        ways = ("sdpa", "eager", "flash_attention_2")
        require(self.attention in ways, "train.attention", self.attention, "one of " + ", ".join(ways))
        require(list(self.stages) == ["asr", "tts", "sqa"], "train.stages", list(self.stages), "asr, tts and sqa")
        for name, stage in self.stages.items():
            section = f"train.stages.{name}"
            positive(section, stage, "epochs", "max_length")
            batches(section, stage.batch_size, stage.batch_tokens)
            require(stage.lr is None or stage.lr > 0, f"{section}.lr", stage.lr, "greater than 0, or null for train.lr")


@dataclass
class Replay:
    enabled: bool = MISSING
    ratio: float = MISSING
    """Examples of each earlier stage, as a share of the set that `basis` names."""
    text_ratio: float | None = None
    """The same for the base model's text; null: `ratio`."""
    basis: str = MISSING
    """old: share of the earlier set's size (the paper's text); current: of the stage's own (its authors' code)."""
    pool: str = MISSING
    """honest: no evaluation fact is in the text pool; with_evaluation_facts: they are, for comparison alone."""

    def __post_init__(self) -> None:
        require(self.basis in ("old", "current"), "replay.basis", self.basis, "old or current")
        for name, ratio in (("ratio", self.ratio), ("text_ratio", self.text_ratio)):
            require(ratio is None or ratio >= 0, f"replay.{name}", ratio, "at least 0")
            whole = ratio is None or ratio <= 1 or self.basis == "current"
            require(whole, f"replay.{name}", ratio, "at most 1, the whole earlier set, with replay.basis=old")
        pools = ("honest", "with_evaluation_facts")
        require(self.pool in pools, "replay.pool", self.pool, " or ".join(pools))


@dataclass
class Merge:
    """A mergekit configuration with roles (base, asr, tts, sqa) in place of paths."""

    method: str | None = None
    base_model: str | None = None
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method is None:
            return
        roles = ("base", "asr", "tts", "sqa")
        for role in [*self.models, *([self.base_model] if self.base_model else [])]:
            require(role in roles, "merge.models", role, "out of " + ", ".join(roles))
        if self.method in methods.METHODS and self.method != "passthrough":
            count = len({*self.models, *([self.base_model] if self.base_model else [])})
            require(count >= 2, "merge.models", list(self.models), f"at least two models for {self.method}")
        try:
            methods.check(dataclasses.asdict(self))
        except ValueError as error:
            raise ConfigError(str(error)) from None


@dataclass
class Discount:
    alpha: float | None = None
    """LoRA alpha at evaluation; null: the trained one."""


@dataclass
class Decoding:
    temperature: float = MISSING
    """0: greedy."""
    top_k: int = MISSING
    seed: int = MISSING

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "evaluate.decoding.temperature", self.temperature, "at least 0")
        require(self.top_k >= 0, "evaluate.decoding.top_k", self.top_k, "at least 0 (0: all tokens)")


@dataclass
class LmEval:
    """Tasks of lm-evaluation-harness as further columns, by the names of its command's options."""

    tasks: list[str] = field(default_factory=list)
    """Names of tasks, groups or tags; each is a step of its own."""
    include_path: str | None = None
    """Folder with tasks of one's own."""
    num_fewshot: int | None = None
    limit: float | None = None
    """Examples of each task, or below 1 a share of them; null: all."""
    batch_size: int = 1
    apply_chat_template: bool = True

    def __post_init__(self) -> None:
        section, folder, limit = "evaluate.lm_eval", self.include_path, self.limit
        distinct = len(set(self.tasks)) == len(self.tasks)
        require(distinct, f"{section}.tasks", list(self.tasks), "a list that names each task once")
        right = "a folder with task files (*.yaml), or null"
        require(folder is None or Path(folder).is_dir(), f"{section}.include_path", folder, right)
        shots = self.num_fewshot
        require(shots is None or shots >= 0, f"{section}.num_fewshot", shots, "at least 0, or null for each task's own")
        whole = limit is None or 0 < limit < 1 or (limit >= 1 and limit.is_integer())
        require(whole, f"{section}.limit", limit, "a whole number above 0, a share below 1, or null for all")
        positive(section, self, "batch_size")


@dataclass
class Evaluate:
    max_new_tokens: dict[str, int] = MISSING
    decoding: Decoding = MISSING
    matching: str = MISSING
    """When a prediction holds an answer (src/evaluate/qa.py)."""
    wer_normalization: str = MISSING
    """What texts go through before their word errors are counted (src/evaluate/wer.py)."""
    batch_tokens: int = MISSING
    listen: int = MISSING
    """Spoken answers kept as audio, of each question set."""
    asr_examples: int = MISSING
    tts_examples: int = MISSING
    lm_eval: LmEval = MISSING

    def __post_init__(self) -> None:
        require(self.matching in RULES, "evaluate.matching", self.matching, "one of " + ", ".join(RULES))
        way = self.wer_normalization
        require(way in ("basic", "whisper"), "evaluate.wer_normalization", way, "basic or whisper")
        positive("evaluate", self, "batch_tokens", "asr_examples", "tts_examples")
        require(self.listen >= 0, "evaluate.listen", self.listen, "at least 0")
        tasks = ["t2t", "ifeval", "sqa", "asr", "tts"]
        require(sorted(self.max_new_tokens) == sorted(tasks), "evaluate.max_new_tokens", dict(self.max_new_tokens),
                "a number for each of " + ", ".join(tasks))  # fmt: skip
        for task, number in self.max_new_tokens.items():
            require(number > 0, f"evaluate.max_new_tokens.{task}", number, "greater than 0")


@dataclass
class Speech:
    """Settings of the speech components that are fitted as steps of the plan (src/speech)."""

    name: str = MISSING
    synthesizer: SynthesizerConfig = MISSING
    quantizer: QuantizerConfig = MISSING
    units: UnitsConfig = MISSING
    vocoder: VocoderConfig = MISSING
    recognizer: RecognizerConfig = MISSING


@dataclass
class Gpu:
    """What a training step is to fit on; nothing else depends on it."""

    name: str = MISSING
    """As in src/train/memory.py PEAK_TFLOPS."""
    memory_gb: float = MISSING

    def __post_init__(self) -> None:
        positive("gpu", self, "memory_gb")


@dataclass
class Expected:
    """Sizes of a list of examples, as the plan assumes them until the store has counted."""

    examples: int = MISSING
    """All of them, those too that are longer than a stage takes."""
    lengths: list[float] = MISSING
    """Tokens of the shortest, and so on in equal steps up to the longest: of ten parts with as many examples each, say,
    eleven numbers. Within a part they are taken to be evenly spread."""

    def __post_init__(self) -> None:
        positive("expected", self, "examples")
        ascending = len(self.lengths) > 1 and self.lengths[0] > 0 and sorted(self.lengths) == list(self.lengths)
        require(ascending, "expected.lengths", list(self.lengths), "two or more numbers above 0, none below the last")


@dataclass
class Tracker:
    mode: str = MISSING
    project: str = MISSING
    entity: str | None = None

    def __post_init__(self) -> None:
        modes = ("auto", "online", "offline", "disabled")
        require(self.mode in modes, "tracker.mode", self.mode, "one of " + ", ".join(modes))


OWN_DEEPSPEED_KEYS = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "optimizer", "scheduler", "steps_per_print",
)  # fmt: skip
"""What the training loop decides by itself: DeepSpeed must not do it a second time."""


@dataclass
class Cell:
    """One fully resolved configuration."""

    profile: str = MISSING
    seed: int = MISSING
    outputs: str = MISSING
    name: str | None = None
    """Folder of the grid under outputs/grids; null: made from its rows."""
    plan_only: bool = False
    strategy: Strategy = MISSING
    data: Any = MISSING
    """The class that its `name` has in VARIANTS; the same of speech and model."""
    speech: Any = MISSING
    model: Any = MISSING
    train: Train = MISSING
    replay: Replay = MISSING
    merge: Merge = MISSING
    discount: Discount = MISSING
    evaluate: Evaluate = MISSING
    deepspeed: dict[str, Any] = MISSING
    """DeepSpeed's own configuration."""
    tracker: Tracker = MISSING
    estimate: dict[str, Any] = MISSING
    """Step label -> [seconds, megabytes], for the plan; the store's own measurements come first."""
    gpu: Gpu | None = None
    """What one training process has; null: not known."""
    expected: dict[str, Expected] = field(default_factory=dict)
    """Set (asr, tts, sqa, text) -> its sizes, for the plan of a published model."""
    original: bool = False
    """This row is the base model itself: nothing is trained."""

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        for key in OWN_DEEPSPEED_KEYS:
            require(key not in self.deepspeed, f"deepspeed.{key}", self.deepspeed.get(key), "left out: train sets it")
        alpha, trained = self.discount.alpha, self.train.adapter.alpha
        if alpha is not None:
            require(0 <= alpha <= trained, "discount.alpha", alpha, f"between 0 and the trained alpha, "
                    f"train.adapter.alpha={trained:g}, or null")  # fmt: skip
        if self.original:
            changed = [
                f"{key}={value}"
                for key, value in {
                    "replay.enabled": self.replay.enabled,
                    "merge.method": self.merge.method,
                    "discount.alpha": alpha,
                }.items()
                if value not in (None, False)
            ]
            require(not changed, "strategy=original with " + ", ".join(changed), self.original,
                    "without: nothing is trained that could be replayed, merged or discounted")  # fmt: skip


VARIANTS: dict[str, dict[str, type]] = {
    "data": {"closed_domain": Data, "published": PublishedData},
    "speech": {"fitted": Speech, "pretrained": PretrainedSpeech},
    "model": {"scratch": Model, "pretrained": PretrainedModel},
}
"""Section -> its `name` -> the settings."""


def compose(load: Callable[[list[str]], DictConfig], overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes from the overrides. Raises ConfigError for one of a setting that does not exist, and whatever
    else Hydra says.

    load: composes a cell from overrides.
    """
    try:
        return load(list(overrides))
    except ConfigCompositionException as error:
        found = re.match(r"Could not override '([^']+)'", str(error))
        if not found:
            raise
        rest = [text for text in overrides if text.partition("=")[0] != found[1]]
        if len(rest) == len(overrides):
            raise
        settings: Any = OmegaConf.to_container(compose(load, rest), resolve=False)
        raise ConfigError(unknown(found[1], settings)) from None


def cell(composed: DictConfig) -> Cell:
    """Check a composed configuration and make it a Cell. Raises ConfigError."""
    plain = OmegaConf.create({key: composed._get_node(key) for key in composed if key != "hydra"})
    try:
        made = typed(Cell, OmegaConf.to_container(plain, resolve=True))
        for section in VARIANTS:
            setattr(made, section, _variant(section, getattr(made, section)))
    except ValueError as error:  # a component's own check
        raise ConfigError(str(error)) from None
    _check_together(made)
    _check_numbers(dataclasses.asdict(made), "")
    return made


def _variant(section: str, values: dict[str, Any]) -> Any:
    variants, name = VARIANTS[section], values.get("name")
    require(name in variants, f"{section}.name", name, " or ".join(variants))
    try:
        return typed(variants[str(name)], values, section)
    except ConfigError:
        raise
    except ValueError as error:  # of a module that knows nothing of the configuration around it
        raise ConfigError(f"{section}.{error}") from None


def _check_together(made: Cell) -> None:
    published = made.data.name == "published"
    wanted = "pretrained" if published else "fitted"
    require(made.speech.name == wanted, "speech.name", made.speech.name, f"{wanted} with data.name={made.data.name}")
    scratch = made.model.name == "scratch"
    require(not (published and scratch), "model.name", "scratch", "pretrained with data.name=published")
    pool = made.replay.pool
    require(not published or pool == "honest", "replay.pool", pool, "honest with data.name=published")


def local_paths(settings: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Path]]:
    """(setting, path) of every file or folder that a cell's settings name: those called `path`, and whatever is written
    as an absolute path or begins with a dot or a tilde."""
    for key, value in settings.items():
        name = f"{section}.{key}" if section else key
        if isinstance(value, Mapping):
            yield from local_paths(value, name)
        elif isinstance(value, str) and (key == "path" or value.startswith(("/", "./", "../", "~"))):
            yield name, Path(value).expanduser()


def typed(kind: type[T], values: Any, section: str = "") -> T:
    """`values` as an object of the dataclass `kind`. Raises ConfigError, which names the setting below `section`."""

    def name(key: str | None) -> str:
        return ".".join(filter(None, (section, key)))

    try:
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except ConfigKeyError as error:
        raise ConfigError(f"{name(error.full_key)} is no setting: {_first_line(error)}") from None
    except MissingMandatoryValue as error:
        raise ConfigError(f"{name(error.full_key)} is not set") from None
    except OmegaConfBaseException as error:
        value = OmegaConf.select(OmegaConf.create(values), error.full_key or "", default=None)
        wanted = _type_of(kind, error.full_key or "") or f"something else: {_first_line(error)}"
        raise ConfigError(f"{name(error.full_key)} is {value!r}; it must be {wanted}") from None
    assert isinstance(made, kind)
    return made


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _type_of(kind: Any, key: str) -> str | None:
    """The declared type of a dotted key of a dataclass in words, None where it has none of its own."""
    for part in filter(None, key.split(".")):
        fields = {f.name: f.type for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
        kind = fields.get(part)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    kinds = [kind for kind in typing.get_args(kind) if kind is not NoneType]
    if isinstance(kind, UnionType) and len(kinds) == 1:
        inner = _type_of(kinds[0], "")
        return inner and f"{inner} or null"
    if dataclasses.is_dataclass(kind):
        return "the settings {" + ", ".join(f"{f.name}: .." for f in dataclasses.fields(kind)) + "}"
    if typing.get_origin(kind) is list:
        return "a list in brackets, [a, b]"
    return names.get(kind)


def _check_numbers(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _check_numbers(inner, f"{key}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} is {value}; it must be a finite number")
