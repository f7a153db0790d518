"""Sharing out a model among the GPUs before it is on any of them."""

from collections.abc import Mapping
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator


def share_out(module: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Leave each rank its share of every parameter, in place, as ZeRO-3 does.

    deepspeed.initialize would do the same with a model that is whole on each GPU first. Here one parameter after the
    other is moved there, shared out and freed. config: DeepSpeed's whole configuration, with ZeRO stage 3.
    """
    deepspeed.zero.Init(module=module, config_dict_or_path=dict(config))
    device = torch.device(get_accelerator().current_device_name())
    for buffer in module.buffers():
        buffer.data = buffer.data.to(device)
