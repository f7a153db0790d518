"""A model that is shared out, and the gradients of many micro-batches, for a process that a test starts."""

from pathlib import Path
from typing import Any
from unittest import mock

import deepspeed
import torch

from src.grid.context import Context
from src.grid.typed import typed
from src.model import adapter
from src.model.settings import Adapter
from src.train.loss import ResponseLoss
from src.train.sharding import share_out

MICRO_BATCHES = 64


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """config: adapter, and DeepSpeed's. Returns `moved`, whether the whole model was moved to the device; `left`,
    elements of parameters that are whole after they are shared out; `shares`, elements of the shares; `elements`; and
    `ratio`, the norm of the gradient of so many equal micro-batches beside that of one."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    model = adapter.trainable(inputs["base"], None, typed(Adapter, config["adapter"]), 0, torch.bfloat16)
    elements = sum(p.numel() for p in model.parameters())
    learner = ResponseLoss(model)
    settings = {
        "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True, **config["deepspeed"],
    }  # fmt: skip
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0)
    moved = mock.Mock(side_effect=torch.nn.Module.to)
    shares = left = 0
    if settings["zero_optimization"]["stage"] == 3:
        share_out(learner, settings)
        left = sum(p.numel() for p in model.parameters())
        shares = sum(p.ds_tensor.numel() for p in model.parameters())  # type: ignore[attr-defined]
    with mock.patch.object(torch.nn.Module, "to", lambda *arguments, **more: moved(*arguments, **more)):
        engine, *_ = deepspeed.initialize(
            model=learner, model_parameters=trained, optimizer=optimizer, config=settings
        )
    torch.manual_seed(0)
    ids = torch.randint(50, (2, 8))
    norms = []
    for count in (1, MICRO_BATCHES):
        for number in range(count):
            engine.set_gradient_accumulation_boundary(number + 1 == count)
            engine.backward(engine(ids, ids), scale_wrt_gas=False)
        engine.step()
        norms.append(float(engine.get_global_grad_norm()))
    whole = any(call.args[0] is learner for call in moved.call_args_list)
    return {"moved": whole, "left": left, "shares": shares, "elements": elements, "ratio": norms[1] / norms[0]}
