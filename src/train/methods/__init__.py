"""Training methods: what changes the training itself, against forgetting or otherwise.

A method is one file here, a frozen dataclass of its settings with one or more of the three hooks of `Method`, and one
YAML in conf/method/ with its name and settings. Imports no torch: a plan is checked with the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from src.grid.choice import class_named
from src.grid.typed import plain, typed

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Role(IntFlag):
    """Which losses the answer tokens of an example are trained on."""

    CROSS_ENTROPY = 1
    METHOD = 2
    """Method.loss."""
    BOTH = 3


@dataclass(frozen=True)
class Method:
    """A training method. A subclass has its settings as fields and overrides the hooks that it needs."""

    anchor: ClassVar[Literal["start", "base"] | None] = None
    """Where `penalty` pulls the weights to: those at the start of the stage, or those of the base. None: no penalty."""
    fisher: ClassVar[bool] = False
    """Whether `penalty` weighs each weight by the base's Fisher information (src/train/fisher.py)."""
    teacher: ClassVar[bool] = False
    """Whether `loss` gets the base's logits. A frozen copy of the base is held in memory for them."""
    own: ClassVar[Role] = Role.CROSS_ENTROPY
    """What a stage's speech examples are trained on, replayed ones too."""
    text: ClassVar[Role] = Role.CROSS_ENTROPY
    """What examples of the text pool are trained on, replayed ones or those of a stage on text."""

    @property
    def name(self) -> str:
        """The method's file without `.py`."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def identity(self) -> dict[str, Any]:
        """Its name and its settings that are not at their default, of JSON types; `made_of` makes it again."""
        return {"name": self.name, **plain(self, skip_defaults=True)}

    @property
    def fisher_texts(self) -> int:
        """How many texts of the pool the Fisher information is estimated on."""
        return 0

    @property
    def text_ratio(self) -> float:
        """How many examples of the text pool a stage without any draws for the method, as a share of its own examples.
        They are trained on with `Role.METHOD` alone."""
        return 0.0

    def attach(self, model: "Module") -> None:
        """Change the model that is to be trained, in place, before DeepSpeed has it.

        Whatever is random in the change draws from torch's global generator, which is seeded anew for each step and
        rank: then a resumed run has the same bits.
        """

    def penalty(self, weights: "Tensor", anchor: "Tensor", fisher: "Tensor | None") -> "Tensor":
        """A scalar that is added to the mean loss, differentiable in `weights`.

        weights: float32 [n], any n of the trained weights. It must be a sum over single weights, since each rank has
        some of them and calls this piece by piece. anchor, fisher: [n], of the same weights.
        """
        raise NotImplementedError

    def loss(self, logits: "Tensor", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """The loss of the answer tokens whose example has `Role.METHOD`, summed over them; a batch may have none.

        logits, teacher: float32 [tokens, vocabulary], of the model and of the base. targets: int64 [tokens].
        It is averaged over the batch as the cross-entropy is, by `loss_average`.
        """
        raise NotImplementedError


def made_of(settings: Mapping[str, Any]) -> Method:
    """The method of a mapping of its `name` and its settings.

    Raises ConfigError, one line, for a method or a setting that does not exist, one that is missing, and one of the
    wrong type or value.
    """
    own = {key: value for key, value in settings.items() if key != "name"}
    kind = class_named(__name__, settings.get("name"), Method, "method.name", also="null or ")
    return typed(kind, own, "method")
