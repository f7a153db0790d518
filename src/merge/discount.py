"""The LoRA discount: a stage's adapter applied with a smaller alpha than it was trained with; a step body.

W = W_0 + (alpha / r) B A. Only the LoRA part is scaled, as PEFT's `rescale_adapter_scale` does; modules that were
trained in full (embeddings, head, last attention layers) stay as they were trained.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.merge.merge import TOKENIZER_FILES

if TYPE_CHECKING:
    from src.grid.context import Context


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: "Context") -> dict[str, Any]:
    """Write the discounted model to `out/model`.

    config: "alpha" (to apply), "trained_alpha". inputs: base (`model/`), stage (`adapter/`, `full.safetensors`).
    Raises ValueError if alpha is not in [0, trained_alpha].
    """
    from src.model.adapter import materialize

    alpha, trained = config["alpha"], config["trained_alpha"]
    if not 0 <= alpha <= trained:
        raise ValueError(f"discount.alpha={alpha}: must lie between 0 and the trained alpha, {trained}")
    model = materialize(inputs["base"], inputs["stage"], alpha=alpha)
    target = out / "model"
    model.save_pretrained(target)
    for name in TOKENIZER_FILES:
        source = inputs["base"] / "model" / name
        if source.is_file():
            shutil.copyfile(source, target / name)
    return {"alpha": alpha, "trained_alpha": trained}
