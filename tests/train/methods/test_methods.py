"""Each method's formula, and how a method is found by its name."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributions import Categorical, kl_divergence

from src.grid.choice import names
from src.grid.errors import ConfigError
from src.model import adapter
from src.model.settings import Adapter
from src.train import methods
from src.train.methods import Role
from tests.conftest import TINY_ADAPTER

CONF = Path(__file__).parents[3] / "conf"


def made(name: str, **settings: Any) -> methods.Method:
    return methods.made_of({"name": name, **settings})


def gradient(method: methods.Method, weights: list[float], anchor: list[float], fisher: list[float] | None) -> Any:
    at = torch.tensor(weights, requires_grad=True)
    value = method.penalty(at, torch.tensor(anchor), None if fisher is None else torch.tensor(fisher))
    value.backward()
    return value.item(), at.grad


def test_l2_and_its_gradient() -> None:
    value, slope = gradient(made("l2", strength=0.5), [1.0, 2.0, -1.0], [0.0, 2.0, 1.0], None)
    assert value == pytest.approx(0.5 * (1 + 0 + 4))
    torch.testing.assert_close(slope, torch.tensor([1.0, 0.0, -2.0]))


def test_ewc_and_its_gradient() -> None:
    value, slope = gradient(made("ewc", strength=4.0), [1.0, 2.0, -1.0], [0.0, 1.0, 1.0], [3.0, 0.0, 0.5])
    assert value == pytest.approx(4 / 2 * (3 * 1 + 0 + 0.5 * 4))
    torch.testing.assert_close(slope, torch.tensor([12.0, 0.0, -4.0]))


def test_distillation_is_the_softened_kl_to_the_base() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 6, 11)
    method = made("distill", weight=0.3, temperature=2.5, ratio=0.1)
    softened = [Categorical(logits=x / 2.5) for x in (theirs, ours)]
    expected = 0.3 * 2.5**2 * kl_divergence(softened[0], softened[1]).sum()
    torch.testing.assert_close(method.loss(ours, torch.zeros(6), theirs), expected)
    assert method.loss(theirs, torch.zeros(6), theirs).item() == pytest.approx(0, abs=1e-6)
    assert method.loss(ours[:0], torch.zeros(0), theirs[:0]).item() == 0
    assert (method.text, method.own, method.text_ratio) == (Role.BOTH, Role.CROSS_ENTROPY, 0.1)


def test_neftune_is_uniform_within_its_bound_and_off_in_evaluation(tiny_base: Path) -> None:
    model = adapter.trainable(tiny_base, None, Adapter(**TINY_ADAPTER), 0)
    embeddings: Any = model.get_input_embeddings()
    ids = torch.arange(200).reshape(2, 100)
    plain = embeddings(ids)
    made("neftune", alpha=5.0).attach(model)
    torch.manual_seed(1)
    noise = embeddings.train()(ids) - plain
    bound = 5 / (100 * 32) ** 0.5
    assert 0.99 * bound < noise.abs().max() <= bound * (1 + 1e-3)
    assert noise.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    torch.manual_seed(1)
    assert torch.equal(embeddings(ids) - plain, noise)
    assert torch.equal(embeddings.eval()(ids), plain)


@pytest.mark.parametrize("name", names("src.train.methods"))
def test_every_method_has_a_yaml_that_it_accepts(name: str) -> None:
    settings = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())
    assert settings.pop("name") == name
    method = made(name, **settings)
    assert method.name == name and method == methods.made_of(method.identity)
    with pytest.raises(ConfigError, match=r"^method\.wrong is no setting; there are"):
        made(name, wrong=1.0, **settings)
    for key in settings:
        with pytest.raises(ConfigError, match=f"^method\\.{key} is 'much'; it must be a number"):
            made(name, **settings | {key: "much"})
        with pytest.raises(ConfigError, match=f"^method\\.{key} is -1"):
            made(name, **settings | {key: -1})
        with pytest.raises(ConfigError, match=f"^method\\.{key} is not set"):
            made(name, **{k: v for k, v in settings.items() if k != key})


def test_an_unknown_method_is_told_the_others() -> None:
    with pytest.raises(ConfigError, match=r"^method\.name is 'l3'; it must be null or one of distill, ewc, l2, nef"):
        made("l3")


@pytest.mark.parametrize("file", sorted((CONF / "strategy" / "extra").glob("*.yaml")), ids=lambda file: file.stem)
def test_each_method_has_a_row_with_and_without_replay(file: Path) -> None:
    row = yaml.safe_load(file.read_text())
    replay, plain = file.stem.endswith("_replay"), file.stem.removesuffix("_replay")
    assert row["strategy"]["name"] == file.stem and row["replay"] == {"enabled": replay}
    assert row["strategy"]["label"].endswith(" w/ R") == replay
    assert row["defaults"] == [{"override /method": plain}] and (CONF / "method" / f"{plain}.yaml").is_file()


def test_settings_need_no_torch() -> None:
    code = (
        "import sys; from src.train import methods, settings; import src.model.settings\n"
        "methods.made_of({'name': 'distill', 'weight': 1, 'temperature': 2, 'ratio': 0})\n"
        "for name in ('l2', 'ewc'): methods.made_of({'name': name, 'strength': 1})\n"
        "methods.made_of({'name': 'neftune', 'alpha': 1})\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'deepspeed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
