"""What is done to a model before DeepSpeed has it: checkpointing, attention, loss; and how a batch is shared out."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.model import adapter
from src.model.chat import IGNORE
from src.model.settings import Adapter
from src.train import loss as losses
from src.train.batches import micro_batches
from src.train.loss import ResponseLoss, prepare
from src.train.methods import Role, made_of
from src.train.settings import Optimization
from tests.conftest import TINY_ADAPTER, TINY_OPTIMIZATION

SETTINGS = Optimization(**TINY_OPTIMIZATION)
LIGER = "liger_kernel.ops.fused_linear_cross_entropy"


def prepared(base: Path, **settings: Any) -> ResponseLoss:
    model = adapter.trainable(base, None, Adapter(**TINY_ADAPTER), 0)
    return prepare(model, replace(SETTINGS, **settings)).train()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of four examples; of the first nothing is learned."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(50, (4, 30), generator=generator)
    labels = torch.where(torch.rand(4, 30, generator=generator) < 0.5, ids, IGNORE)
    labels[0] = IGNORE
    return ids, labels


def gradients(model: ResponseLoss) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(7)  # dropout's
    loss = model(*batch())
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def kept(model: ResponseLoss) -> int:
    """Bytes that autograd keeps for the backward pass, counted as often as they are kept."""
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(*batch())
    return sum(sizes)


def test_checkpointing_has_the_same_gradients_to_the_bit_with_dropout(tiny_base: Path) -> None:
    assert TINY_ADAPTER["dropout"] == 0.1
    plain, again = prepared(tiny_base), prepared(tiny_base, gradient_checkpointing=True)
    assert kept(again) < 0.7 * kept(plain)
    (loss, ours), (other, theirs) = gradients(plain), gradients(again)
    assert torch.equal(loss, other) and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_attention_gives_the_same_loss(tiny_base: Path) -> None:
    sdpa, eager = prepared(tiny_base), prepared(tiny_base, attention="eager")
    names = [model.model.get_base_model().config._attn_implementation for model in (sdpa, eager)]  # type: ignore[operator]
    assert names == ["sdpa", "eager"]
    (loss, ours), (other, theirs) = gradients(sdpa), gradients(eager)
    torch.testing.assert_close(loss, other)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-3, atol=1e-5)


class Reference(torch.autograd.Function):
    """Liger's function as it is called: (input, weight, target, bias, ce_weight, ignore_index, lse_square_scale,
    label_smoothing, reduction, softcap, return_z_loss, accum_dtype) -> (loss, z_loss, token_accuracy,
    predicted_tokens)."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, target: Any, bias: Any, *rest: Any) -> tuple[Any, ...]:
        assert rest == (None, IGNORE, 0.0, 0.0, "sum", None, False, torch.float32) and bias is None
        with torch.enable_grad():
            x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
            loss = functional.cross_entropy(x @ weight.T, target, reduction="sum")
            ctx.save_for_backward(*torch.autograd.grad(loss, (x, weight)))
        return loss.detach(), None, None, None

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        return (x * grad, weight * grad, *[None] * 10)


def test_the_fused_loss_is_that_of_the_labelled_tokens(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType(LIGER)
    fake.LigerFusedLinearCrossEntropyFunction = Reference  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, LIGER, fake)
    model = prepared(tiny_base)
    (loss, plain) = gradients(model)
    model.zero_grad()
    model.fused = True
    (other, fused) = gradients(model)
    torch.testing.assert_close(loss, other)
    for name, gradient in plain.items():
        torch.testing.assert_close(gradient, fused[name])
    nothing = model(batch()[0], torch.full((4, 30), IGNORE))
    assert nothing.item() == 0 and nothing.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None, reason="no GPU, or no Liger"
)
def test_liger_has_the_same_loss_and_gradients(tiny_base: Path) -> None:
    plain, fused = prepared(tiny_base).cuda(), prepared(tiny_base, fused_loss=True).cuda()
    found = []
    for model in (plain, fused):
        torch.manual_seed(7)
        ids, labels = (tensor.cuda() for tensor in batch())
        loss = model(ids, labels)
        (loss / 3).backward()
        found.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (loss, ours), (other, theirs) = found
    torch.testing.assert_close(loss, other, rtol=1e-4, atol=1e-3)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "flash_attention_2"}, "attention=flash_attention_2 needs a GPU and the package flash-attn"),
        ({"fused_loss": True}, r"fused_loss=true needs a GPU and the package liger-kernel"),
        (
            {"fused_loss": True, "deepspeed": {"zero_optimization": {"stage": 3}}},
            r"fused_loss=true needs the whole head on each GPU.*deepspeed=zero2_bf16",
        ),
    ],
)
def test_what_is_not_here_is_said_in_one_line(
    settings: dict[str, Any], message: str, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "is_flash_attn_2_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message) as raised:
        prepared(tiny_base, **settings)
    assert "\n" not in str(raised.value)


@given(st.lists(st.integers(), min_size=1, max_size=30, unique=True), st.integers(1, 4), st.none() | st.integers(1, 5))
def test_every_rank_has_as_many_micro_batches_and_every_example_is_in_one(
    batch: list[int], world: int, micro: int | None
) -> None:
    shares = [micro_batches(batch, rank, world, micro) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(i for share in shares for part in share for i in part) == sorted(batch)
    assert all(len(part) <= (micro or len(batch)) for share in shares for part in share)
    assert micro is not None or len(shares[0]) == 1
    assert all(shares[0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0}, "lr is 0.0; it must be greater than 0"),
        ({"epochs": 0}, "epochs is 0; it must be greater than 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0; it must be greater than 0"),
        ({"ranks": 0}, "ranks is 0; it must be greater than 0"),
        ({"max_length": -1}, "max_length is -1; it must be greater than 0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio is 1.5; it must be between 0 and 1"),
        ({"weight_decay": -1}, "weight_decay is -1.0; it must be at least 0"),
        ({"betas": [0.9]}, r"betas is \[0.9\]; it must be a list of 2"),
        ({"batch_size": 4}, r"batch_size and batch_tokens is \[4, 256\]; it must be one positive number and one null"),
        ({"micro_batch_size": 0}, "micro_batch_size is 0; it must be greater than 0, or null"),
        ({"attention": "flash"}, "attention is 'flash'; it must be one of sdpa, eager, flash_attention_2"),
    ],
)
def test_wrong_settings_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        typed(Optimization, TINY_OPTIMIZATION | changed)


def test_a_method_has_its_loss_on_its_own_rows_alone(tiny_base: Path) -> None:
    """Of three rows the first has the cross-entropy, the second both losses, the third the method's alone."""
    method = made_of({"name": "distill", "weight": 2.0, "temperature": 1.0, "ratio": 0.0})
    ids, labels = (tensor[1:] for tensor in batch())
    roles = torch.tensor([Role.CROSS_ENTROPY, Role.BOTH, Role.METHOD])
    teacher = adapter.load_base(tiny_base).eval()
    plain = prepared(tiny_base).eval()
    with torch.no_grad():
        plain.model.get_base_model().lm_head.weight.add_(0.05)  # type: ignore[operator, union-attr]
        plain.model.get_base_model().lm_head.weight[:20].add_(0.5)  # type: ignore[operator, union-attr]
    whole = ResponseLoss(plain.model, method=method, teacher=teacher)
    loss, expected, own = whole(ids, labels, roles), 0.0, 0.0
    for row, role in enumerate(roles.tolist()):
        if role & Role.CROSS_ENTROPY:
            expected += plain(ids[row : row + 1], labels[row : row + 1]).item()
        if role & Role.METHOD:
            kept = labels[row, 1:] != IGNORE
            ours, theirs = (m(input_ids=ids[row : row + 1]).logits[0, :-1][kept] for m in (plain.model, teacher))
            own += 2 * (theirs.softmax(-1) * (theirs.log_softmax(-1) - ours.log_softmax(-1))).sum().item()
    assert own > 0 and whole.method_loss is not None
    assert whole.method_loss.item() == pytest.approx(own, rel=1e-4)
    assert loss.item() == pytest.approx(expected + own, rel=1e-5)
    assert not any("teacher" in name for name in whole.state_dict())
