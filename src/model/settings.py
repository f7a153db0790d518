"""The settings of the base model, theta_0 of every merge, and of what is trained in it. Imports no torch: a plan is
checked with them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from src.checks import positive, require, seed

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama."""
WHOLE_MODULES = ("embed_tokens", "lm_head")
"""Its other modules that may be trained in full."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of the Llama that is trained from scratch, by LlamaConfig's own names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float

    def __post_init__(self) -> None:
        positive(self, *(field.name for field in fields(self)))
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        divides = f"a divisor of hidden_size={self.hidden_size}"
        require(self.hidden_size % heads == 0, "num_attention_heads", heads, divides)
        require(heads % shared == 0, "num_key_value_heads", shared, f"a divisor of num_attention_heads={heads}")


@dataclass(frozen=True, kw_only=True)
class ScratchModel:
    """A base model that is trained from scratch."""

    name: str = "scratch"
    seed: int
    architecture: Architecture
    pretrain: Mapping[str, Any]
    """How it is trained: settings of the training loop."""

    def __post_init__(self) -> None:
        seed(self)


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A published text model, whose vocabulary is extended by the units."""

    name: str = "pretrained"
    pretrained: str
    """A repository of the Hugging Face hub, or a folder. Of Llama 3.2 Vision, the text part is taken."""
    revision: str | None = None
    """Commit, tag or branch of the hub; of a folder, a label to be changed when its files are."""
    seed: int
    """Seed for initializing the new rows of embeddings and head."""
    initialization: Literal["mean_covariance", "mean"]
    """How the new rows begin: mean_covariance (as transformers does it) or mean (src/model/vocabulary.py)."""
    pad_to_multiple_of: int | None = None
    """Rows of embeddings and head are filled up to a multiple of this."""
    architecture: Mapping[str, Any] | None = None
    """Fields of the text model's configuration (transformers' names, model_type among them), so that a plan knows its
    sizes without a network; null: not known. The model that is fetched must agree."""
    text_tokens: int | None = None
    """Tokens of its tokenizer, for the plan too; null: not known."""

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.pretrained) or self.pretrained.startswith(("/", ".", "~"))
        right = "a hub repository, OWNER/NAME, or a folder"
        require(bool(named) or Path(self.pretrained).exists(), "pretrained", self.pretrained, right)
        seed(self)
        positive(self, "pad_to_multiple_of", "text_tokens")
        known = self.architecture is None or "model_type" in self.architecture
        require(known, "architecture", list(self.architecture or ()), "a configuration with its model_type, or null")


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """A spoken language model that somebody has trained already: one of the two, from the Hugging Face hub or a
    folder."""

    model: str | None = None
    """A whole model, with the units in its vocabulary."""
    adapter: str | None = None
    """A PEFT adapter, with its embeddings and head in full, on the row's own base model (the group `model`)."""
    revision: str | None = None
    """Commit, tag or branch of the hub; of a folder, a label to be changed when its files are."""

    def __post_init__(self) -> None:
        both = {"model": self.model, "adapter": self.adapter}
        right = "a hub repository or a folder as exactly one of the two"
        require(bool(self.model) != bool(self.adapter), "model", both, right)


NOT_SIZES = ("architectures", "_name_or_path", "dtype", "torch_dtype", "transformers_version")
"""Fields of a config.json that say nothing of a model's sizes."""


def described(model: PublishedModel) -> PublishedModel:
    """The model with the sizes that its own folder tells, where it is one: those in the configuration are of the model
    that was named there first. Of a vision model, whose text part is another model, they are left as they are."""
    file = Path(model.pretrained).expanduser() / "config.json"
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return model  # of the hub, or to be refused by who opens it
    if not isinstance(told, dict) or "model_type" not in told or "text_config" in told:
        return model
    sizes = {key: value for key, value in told.items() if key not in NOT_SIZES}
    return replace(model, architecture=sizes, text_tokens=None)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is trained: a LoRA adapter, and modules of the base in full (src/model/adapter.py)."""

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    full_modules: tuple[str, ...]
    """Modules trained in full wherever they stand: the embeddings and the head."""
    full_projections: tuple[str, ...]
    full_last_layers: int
    """How many of the last layers have their `full_projections` trained in full."""
    lora_in_later_stages: Literal["trained", "frozen"] = "trained"
    """frozen: stages after the first train their full modules alone. So does PEFT 0.15 with an adapter that is loaded
    without `is_trainable`."""

    def __post_init__(self) -> None:
        positive(self, "r", "alpha")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        for setting in ("target_modules", "full_projections"):
            for name in getattr(self, setting):
                require(name in PROJECTIONS, setting, name, "out of " + ", ".join(PROJECTIONS))
        require(self.full_last_layers >= 0, "full_last_layers", self.full_last_layers, "at least 0")

    @property
    def in_full(self) -> tuple[str, ...]:
        """The names of modules that are trained in full, wherever they stand or in the last layers."""
        return (*self.full_modules, *(self.full_projections if self.full_last_layers else ()))
