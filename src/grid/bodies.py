"""Which function computes each kind of step.

A body is `run(config, inputs, out, context) -> summary`: it reads the artifact folders in `inputs` (role -> folder),
writes its result files into the empty folder `out`, and returns a small JSON-able summary for the manifest.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.grid.context import Context

BodyFunction = Callable[[Mapping[str, Any], Mapping[str, Path], Path, "Context"], dict[str, Any]]


@dataclass(frozen=True)
class Body:
    """How one kind of step is computed."""

    function: str
    """`module:name`, imported only when a step runs."""
    version: int = 1
    """Part of every fingerprint of this kind: raise it when the meaning of a result changes."""
    needs: tuple[str, ...] = ()
    """Slow imports of the body, loaded once for all worker processes of a run."""
    gpu: bool = False
    """Whether it computes with a model, on a GPU for each rank where there are some. Others see none."""

    def load(self) -> BodyFunction:
        """Import the function."""
        module, name = self.function.split(":")
        function: BodyFunction = getattr(importlib.import_module(module), name)
        return function


_SPEECH = ("scipy.fft", "soundfile", "librosa.filters", "sklearn.cluster", "sklearn.discriminant_analysis")
_MODEL = ("torch", "transformers", "transformers.models.llama.modeling_llama")

BODIES: dict[str, Body] = {
    "corpus": Body("src.data.corpus:run", version=2),
    "datasets": Body("src.data.published:run"),
    "backbone": Body("src.model.base:run", needs=_MODEL),
    "base": Body("src.train.pretrain:run", version=2, needs=(*_MODEL, "deepspeed"), gpu=True),
    "quantizer": Body("src.speech.quantizer:run", needs=_SPEECH),
    "vocoder": Body("src.speech.vocoder:run", needs=("torch", *_SPEECH)),
    "recognizer": Body("src.speech.recognizer:run", needs=("torch", *_SPEECH, "jiwer")),
    "units": Body("src.speech.units:run", version=2, needs=_SPEECH),
    "pretrained": Body("src.speech.fetch:run", needs=_MODEL),
    "kmeans": Body("src.speech.kmeans:run", needs=_MODEL, gpu=True),
    "utterances": Body("src.speech.utterances:run", needs=(*_MODEL, *_SPEECH), gpu=True),
    "gather": Body("src.speech.gather:run"),
    "examples": Body("src.train.examples:run", needs=_MODEL),
    "train": Body("src.train.stage:run", version=2, needs=(*_MODEL, "peft", "deepspeed"), gpu=True),
    "merge": Body("src.merge.merge:run", version=2, needs=(*_MODEL, "mergekit.merge")),
    "discount": Body("src.merge.discount:run", version=2, needs=_MODEL),
    "generate": Body("src.evaluate.responses:run", version=2, needs=(*_MODEL, "jiwer"), gpu=True),
    "score": Body("src.evaluate.score:run", needs=("src.evaluate.score", "src.evaluate.checkers")),
    # lm_eval starts threads when it is imported
    "harness": Body("src.evaluate.harness:run", version=2, needs=_MODEL, gpu=True),
}
