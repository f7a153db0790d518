"""The LoRA discount: a stage's adapter applied with a smaller alpha than it was trained with; a step body.

W = W_0 + (alpha / r) B A. Only the LoRA part is scaled, as PEFT's `rescale_adapter_scale` does; modules that were
trained in full (embeddings, head, last attention layers) stay as they were trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.grid.context import Context


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: "Context") -> dict[str, Any]:
    """Write the discounted model to `out/model`.

    config: "alpha" (to apply), "trained_alpha". inputs: base (`model/`), stage (`adapter/`, `full.safetensors`).
    Raises ValueError if alpha is not in [0, trained_alpha].
    """
    from src.model.adapter import materialize, save_model

    alpha, trained = config["alpha"], config["trained_alpha"]
    if not 0 <= alpha <= trained:
        raise ValueError(f"discount.alpha={alpha}: must lie between 0 and the trained alpha, {trained}")
    save_model(materialize(inputs["base"], inputs["stage"], alpha=alpha), inputs["base"], out)
    return {"alpha": alpha, "trained_alpha": trained}
