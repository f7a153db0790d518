"""The loss of a batch: cross-entropy on the answer tokens, and a method's own loss."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from transformers.utils import is_flash_attn_2_available

from src.model.chat import IGNORE, Example
from src.train.methods import Method, Role
from src.train.settings import Optimization


def causal_model(model: torch.nn.Module) -> Any:
    """The model of transformers below PEFT's wrapper, if there is one."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def answer_states(model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The hidden states [answers, d] from which the answer tokens [answers] are predicted, row after row.

    ids, labels: [batch, length], padded on the right, where a causal model needs no mask.
    """
    hidden = causal_model(model).model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    kept = targets != IGNORE
    return hidden[kept], targets[kept]


class ResponseLoss(torch.nn.Module):
    """Cross-entropy on the labelled tokens; logits are computed only for them, or by Liger in parts alone (`fused`)."""

    def __init__(
        self,
        model: torch.nn.Module,
        fused: bool = False,
        method: Method | None = None,
        teacher: torch.nn.Module | None = None,
    ):
        super().__init__()
        self.model = model
        self.fused = fused
        self.method = method
        self.method_loss: torch.Tensor | None = None
        """The method's part of the last loss, detached."""
        self._teacher = [teacher]  # in a list, so that it is no part of the module that DeepSpeed shares out

    def forward(
        self, ids: torch.Tensor, labels: torch.Tensor, roles: torch.Tensor | None = None,
        weights: Sequence[float] | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The summed loss, or with `weights` the sum of the examples' summed losses times theirs.

        ids, labels: [batch, length], padded on the right. roles: [batch], a Role for each example, whose tokens have
        the cross-entropy, the loss of the method, or both; None: cross-entropy for all. weights: of each example.
        """
        hidden, targets = answer_states(self.model, ids, labels)
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(labels)[:, 1:][labels[:, 1:] != IGNORE]
        causal = causal_model(self.model)
        # the head once, however many examples there are: under ZeRO-3 all ranks must call it alike
        logits = None if self.fused else causal.lm_head(hidden).float()
        if roles is None:
            return self._cross_entropy(causal, hidden, logits, targets, rows, weights)
        token_roles = roles[rows]
        learned, own = (token_roles & role != 0 for role in (Role.CROSS_ENTROPY, Role.METHOD))
        chosen = None if logits is None else logits[learned]
        loss = self._cross_entropy(causal, hidden[learned], chosen, targets[learned], rows[learned], weights)
        assert self.method is not None
        method = self.method
        ours = causal.lm_head(hidden[own]).float() if logits is None else logits[own]
        theirs, answers = self._teacher_logits(ids, labels, roles), targets[own]

        def of_method(at: Any) -> torch.Tensor:
            return method.loss(ours[at], answers[at], None if theirs is None else theirs[at])

        extra = _weighed(of_method, rows[own], weights)
        self.method_loss = extra.detach()
        return loss + extra

    def _cross_entropy(
        self, causal: Any, hidden: torch.Tensor, logits: torch.Tensor | None, targets: torch.Tensor,
        rows: torch.Tensor, weights: Sequence[float] | None,
    ) -> torch.Tensor:  # fmt: skip
        if self.fused and len(targets):
            from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

            def fused(at: Any) -> torch.Tensor:
                head = (hidden[at], causal.lm_head.weight, targets[at], causal.lm_head.bias)
                # float32: in it the gradient of the head adds up over all parts
                summed = (None, IGNORE, 0.0, 0.0, "sum", None, False, torch.float32)
                loss: torch.Tensor = LigerFusedLinearCrossEntropyFunction.apply(*head, *summed)[0]
                return loss

            return _weighed(fused, rows, weights)
        made = causal.lm_head(hidden).float() if logits is None else logits
        return _weighed(lambda at: functional.cross_entropy(made[at], targets[at], reduction="sum"), rows, weights)

    @torch.no_grad()
    def _teacher_logits(self, ids: torch.Tensor, labels: torch.Tensor, roles: torch.Tensor) -> torch.Tensor | None:
        (teacher,) = self._teacher
        if teacher is None:
            return None
        rows = roles & Role.METHOD != 0
        if not rows.any():
            return torch.empty(0, causal_model(teacher).config.vocab_size, device=ids.device)
        hidden, _ = answer_states(teacher, ids[rows], labels[rows])
        logits: torch.Tensor = causal_model(teacher).lm_head(hidden).float()
        return logits


def _weighed(loss: Callable[[Any], torch.Tensor], rows: torch.Tensor, weights: Sequence[float] | None) -> torch.Tensor:
    """The loss of all tokens, or that of each example's tokens times its weight, summed.

    loss: the summed loss of the tokens at some places. rows: the example of each token.
    """
    if weights is None:
        return loss(slice(None))
    parts = [weight * loss(rows == row) for row, weight in enumerate(weights)]
    return torch.stack(parts).sum()


def prepare(
    model: torch.nn.Module,
    settings: Optimization,
    method: Method | None = None,
    teacher: Any = None,
) -> ResponseLoss:
    """What DeepSpeed trains: the model with its attention, checkpointing, method and loss as they are set.

    Raises ValueError, one line, where a setting needs what is not here.
    """
    plain = causal_model(model)
    if settings.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ValueError("train.attention=flash_attention_2 needs a GPU and the package flash-attn; sdpa needs neither")
    if settings.fused_loss:
        if settings.zero_stage == 3:
            raise ValueError("train.fused_loss=true needs the whole head on each GPU, which ZeRO-3 has not: "
                             "set it to false, or take deepspeed=zero2_bf16")  # fmt: skip
        if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
            raise ValueError("train.fused_loss=true needs a GPU and the package liger-kernel "
                             "(pip install liger-kernel)")  # fmt: skip
    for every in (plain, teacher) if teacher is not None else (plain,):
        if every.config._attn_implementation != settings.attention:
            every.set_attn_implementation(settings.attention)
    if settings.gradient_checkpointing:
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if method is not None:
        method.attach(model)
    return ResponseLoss(model, settings.fused_loss, method, teacher)


def collate(examples: Sequence[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, each [batch, longest]."""
    length = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    labels = torch.full((len(examples), length), IGNORE)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = torch.tensor(example.ids)
        labels[row, :n] = torch.tensor(example.labels)
    return ids.to(device), labels.to(device)
