"""The paper's text model and its training at the true shapes or at toy size, with random weights made on the device."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from src.grid.typed import typed
from src.machine.parameters import Model, describe
from src.model.chat import Example
from src.model.settings import Adapter
from src.speech.batches import default_device
from src.train.examples import Held, Selection
from src.train.methods import Role
from src.train.settings import Optimization

CONF = Path(__file__).parents[2] / "conf"
UNITS = 10_000
LAYERS = 32
TOY: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
TOY_VOCABULARY = 300


def settings_file(name: str) -> dict[str, Any]:
    """A file of conf/."""
    read: dict[str, Any] = yaml.safe_load((CONF / name).read_text(encoding="utf-8"))
    return read


def architecture(quick: bool, layers: int = LAYERS, vocabulary: int | None = None) -> Any:
    """The text part of Llama 3.2 11B Vision with the paper's units, of so many layers; at toy size two at most."""
    base = settings_file("model/llama_3_2_11b_vision.yaml")
    shape: dict[str, Any] = {**base["architecture"], "num_hidden_layers": layers}
    size = vocabulary or base["text_tokens"] + UNITS
    if quick:
        shape |= TOY | {"num_hidden_layers": min(layers, 2)}
        size = TOY_VOCABULARY
    return AutoConfig.for_model(shape.pop("model_type"), **shape, vocab_size=size)


def paper_adapter(quick: bool, **changes: Any) -> Adapter:
    """What the paper trains; at toy size with a smaller rank, and one layer's projections in full."""
    told = settings_file("train/paper.yaml")["adapter"] | ({"r": 4, "alpha": 1, "full_last_layers": 1} if quick else {})
    return typed(Adapter, {**told, **changes}, "adapter")


def counted(config: Any, adapter: Adapter) -> Model:
    """The parameters, for the plan's formulas."""
    return describe(config, adapter)


def random_model(config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """A model with random weights, made where it is to be used."""
    torch.manual_seed(0)
    with default_device():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model


def optimization(quick: bool, deepspeed: str, batch: int, length: int, **changes: Any) -> Optimization:
    """The paper's settings for one GPU, without its stages. deepspeed: a file of conf/deepspeed.

    The loss is the mean over tokens, which computes what the paper's mean over the tokens of a rank does. At toy size
    DeepSpeed's buffers are small too: else most of the time would go into them.
    """
    known = {field.name for field in fields(Optimization)}
    paper = {name: value for name, value in settings_file("train/paper.yaml").items() if name in known}
    sharding = settings_file(f"deepspeed/{deepspeed}.yaml")
    if quick:
        sharding["zero_optimization"] |= {"reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000}
    own: dict[str, Any] = {
        "epochs": 1, "max_length": length, "batch_size": batch, "micro_batch_size": batch, "ranks": 1, "seed": 0,
        "loss_average": "tokens", "deepspeed": sharding,
    }  # fmt: skip
    return replace(typed(Optimization, {**paper, **own}, "train"), **changes)


def examples(count: int, length: int, vocabulary: int) -> Selection:
    """Random tokens, all of them learned: the most that a plan must reckon with."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (count, length), generator=generator).tolist()
    return Selection([(Held([Example(row, row) for row in ids]), range(count), Role.CROSS_ENTROPY)], length)


@contextmanager
def alone() -> Iterator[None]:
    """Within it, this process is a group of one, which meets itself over loopback.

    The group is never left: DeepSpeed keeps it for all that follows in the process.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "NCCL_SOCKET_IFNAME": "lo"}  # fmt: skip
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
