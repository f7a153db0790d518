"""Muon: against its closed form, against torch.optim.Muon, and beside AdamW."""

import copy
from typing import Any

import pytest
import torch

from src.train.muon import COEFFICIENTS, ITERATIONS, RMS, Muon, orthogonalized
from src.train.settings import Pretraining
from tests.conftest import TINY_OPTIMIZATION

SETTINGS: dict[str, Any] = {"lr": 0.02, "betas": (0.9, 0.98), "weight_decay": 0.1}


@pytest.mark.parametrize("shape", [(12, 12), (5, 16), (16, 5)])
def test_singular_vectors_stay_and_singular_values_follow_the_polynomial(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalized(matrices), u @ torch.diag_embed(s) @ vh, rtol=1e-9, atol=1e-12)


def test_a_well_conditioned_matrix_becomes_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(4, 32, 128)))
    assert values.min() > 0.65 and values.max() < 1.25


def gradients(parameters: list[torch.Tensor], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights() -> list[torch.Tensor]:
    torch.manual_seed(1)
    shapes = [(16, 16), (40, 16), (16, 16), (16, 40), (30, 16), (16,)]
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def test_matrices_move_as_in_pytorch_and_the_rest_as_in_adamw() -> None:
    ours, theirs = weights(), weights()
    start = copy.deepcopy(theirs)
    mine = Muon(ours[:4], ours[4:], **SETTINGS)
    given: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    peers = [torch.optim.Muon(theirs[:4], **given), torch.optim.AdamW(theirs[4:], **SETTINGS)]
    for step in range(4):
        for parameters, optimizers in ((ours, [mine]), (theirs, peers)):
            gradients(parameters, step)
            for optimizer in optimizers:
                optimizer.step()
    for one, other, before in zip(ours[:4], theirs[:4], start, strict=False):
        moved, distance = (other - before).norm(), (one - other).norm()
        assert distance < 0.02 * moved, "beyond the rounding of bfloat16"
    torch.testing.assert_close(ours[4:], theirs[4:])


def test_the_update_has_the_size_of_adamws() -> None:
    matrix = torch.nn.Parameter(torch.zeros(64, 256))
    optimizer = Muon([matrix], [], lr=0.5, weight_decay=0.0)
    gradients([matrix], 0)
    optimizer.step()
    assert matrix.square().mean().sqrt().item() == pytest.approx(0.5 * RMS, rel=0.15)


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    straight, resumed = weights(), weights()
    first = Muon(straight[:4], straight[4:], **SETTINGS)
    second = Muon(resumed[:4], resumed[4:], **SETTINGS)
    for step in range(4):
        if step == 2:
            saved = copy.deepcopy(second.state_dict())
            second = Muon(resumed[:4], resumed[4:], **SETTINGS)
            second.load_state_dict(saved)
        for parameters, optimizer in ((straight, first), (resumed, second)):
            gradients(parameters, step)
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))


@pytest.mark.parametrize("deepspeed", [{"zero_optimization": {"stage": 2}}, {"bf16": {"enabled": True}}])
def test_it_is_refused_where_matrices_are_not_whole(deepspeed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"optimizer is .muon.; it must be adamw where deepspeed is not zero0"):
        Pretraining(**TINY_OPTIMIZATION | {"deepspeed": deepspeed, "optimizer": "muon"})


def test_embeddings_head_and_norms_are_left_to_adamw() -> None:
    matrix = "model.layers.0.mlp.up_proj.weight"
    embeddings, norm, head = "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight", "lm_head.weight"
    shapes = {embeddings: (9, 4), matrix: (8, 4), norm: (4,), head: (9, 4)}
    trained = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    optimizer = Pretraining(**TINY_OPTIMIZATION | {"optimizer": "muon"}).optimizer_of(trained)
    assert [len(group["params"]) for group in optimizer.param_groups] == [3, 1]
    assert optimizer.param_groups[1]["params"][0] is trained[matrix]
