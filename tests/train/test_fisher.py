"""The Fisher information beside a closed form, and beside each example's own gradient."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from src.model import adapter
from src.model.chat import IGNORE, Example
from src.model.settings import Adapter
from src.train import fisher
from src.train.examples import Stored
from tests.conftest import TINY_ADAPTER


class Regression(nn.Module):
    """Softmax regression of the next token on fixed features of the present one, with a language model's attributes."""

    def __init__(self, features: torch.Tensor, classes: int):
        super().__init__()
        self.features = features
        self.lm_head = nn.Linear(features.shape[1], classes, bias=False)

    def model(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(last_hidden_state=self.features[input_ids])


def test_of_softmax_regression_it_is_the_closed_form() -> None:
    """F[k, j] = mean over examples of sum over tokens of x_j^2 p_k (1 - p_k), whatever the data's own tokens are."""
    torch.manual_seed(0)
    features, classes = torch.randn(4, 3), 3
    model = Regression(features, classes)
    examples = [Example([i % 4, 0, 1], [IGNORE, 0, 1]) for i in range(1500)]
    (found,) = fisher.diagonal(model, examples, seed=1).values()
    with torch.no_grad():
        p = model.lm_head(features).softmax(-1)
    expected = torch.zeros(classes, 3)
    for first in range(4):
        for token in (first, 0):
            expected += (p[token] * (1 - p[token]))[:, None] * features[token].square() / 4
    torch.testing.assert_close(found, expected, rtol=0.15, atol=0.01)


def test_it_is_the_mean_square_of_each_examples_gradient(tiny_base: Path, tiny_examples: dict[str, Path]) -> None:
    model = adapter.trainable(tiny_base, None, Adapter(**TINY_ADAPTER), 0)
    examples = Stored(tiny_examples["text"])[:3]
    found = fisher.diagonal(model, examples, seed=4)
    expected: dict[str, Any] = {name: 0.0 for name in found}
    for i, example in enumerate(examples):
        model.zero_grad()
        places = [t for t, label in enumerate(example.labels) if label != IGNORE]
        logits = model(input_ids=torch.tensor([example.ids])).logits[0, [t - 1 for t in places]]
        generator = torch.Generator().manual_seed(4 * 3 + i)
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        functional.cross_entropy(logits, drawn, reduction="sum").backward()
        for name, parameter in model.named_parameters():
            if name in expected:
                assert parameter.grad is not None
                expected[name] = expected[name] + parameter.grad.square() / 3
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-7)
    assert all(not tensor.any() for name, tensor in found.items() if "lora_A" in name)
    assert all(tensor.any() for name, tensor in found.items() if "lora_A" not in name)


def test_the_file_has_every_trained_parameter_and_the_same_bytes_again(
    tiny_base: Path, tiny_examples: dict[str, Path], tmp_path: Path
) -> None:
    done: list[int] = []
    texts, written = Stored(tiny_examples["text"])[:2], []
    for _ in range(2):
        fisher.write(tiny_base, Adapter(**TINY_ADAPTER), texts, 7, tmp_path, done.append)
        written.append((tmp_path / "fisher.safetensors").read_bytes())
    assert written[0] == written[1] and done == [1, 2, 1, 2]
    model = adapter.trainable(tiny_base, None, Adapter(**TINY_ADAPTER), 7)
    wanted = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = load_file(tmp_path / "fisher.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == wanted
    with pytest.raises(ValueError, match="no examples"):
        fisher.diagonal(model, [], 7)
