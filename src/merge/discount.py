"""The LoRA discount: a stage's adapter applied with a smaller alpha than it was trained with.

W = W_0 + (alpha / r) B A. Only the LoRA part is scaled, as PEFT's `rescale_adapter_scale` does; modules that were
trained in full (embeddings, head, last attention layers) stay as they were trained. So the artifact is a stage's, with
another alpha in `adapter_config.json`; its weights are the stage's own files.
"""

import json
from pathlib import Path
from typing import Any

from src.grid.files import link


def discount(alpha: float, trained: float, stage: Path, out: Path) -> dict[str, Any]:
    """Write the discounted stage: `adapter/` and `full.safetensors`.

    alpha: to apply. trained: the alpha that the stage was trained with. stage: its artifact.
    Raises ValueError if alpha is not in [0, trained], or the stage was not trained with that.
    """
    from src.model.adapter import ADAPTER, FULL, LORA, SETTINGS

    if not 0 <= alpha <= trained:
        raise ValueError(f"discount.alpha={alpha}: must lie between 0 and the trained alpha, {trained}")
    settings = json.loads((stage / ADAPTER / SETTINGS).read_text(encoding="utf-8"))
    if settings["lora_alpha"] != trained:
        raise ValueError(f"{stage} was trained with alpha {settings['lora_alpha']}, not {trained}")
    (out / ADAPTER).mkdir()
    text = json.dumps(settings | {"lora_alpha": alpha}, indent=2, sort_keys=True)
    (out / ADAPTER / SETTINGS).write_text(text, encoding="utf-8")
    for file in (f"{ADAPTER}/{LORA}", FULL):
        link(stage / file, out / file)
    return {"alpha": alpha, "trained_alpha": trained}
