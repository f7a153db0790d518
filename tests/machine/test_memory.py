"""The estimate against what is there: parameters, what autograd keeps, live storages, DeepSpeed's states, flops."""

import json
import math
import socket
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from src.evaluate.generate import Decoding, generate
from src.grid.typed import typed
from src.machine import memory
from src.machine.changes import least_change
from src.machine.disk import disk
from src.machine.hours import UTILIZATION, flops_per_token, gpu_hours
from src.machine.memory import answering, estimate, optimizer_bytes
from src.machine.parameters import Model, describe
from src.machine.training import Training
from src.model import adapter
from src.model.difference import changed_keys
from src.model.settings import Adapter
from src.train.loss import prepare
from src.train.settings import Optimization
from tests.conftest import TINY_ADAPTER, TINY_OPTIMIZATION
from tests.model.test_text_part import OTHERS, plain_model

LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, tie_word_embeddings=False,
)  # fmt: skip
PAPER = Adapter(
    r=64,
    alpha=16,
    dropout=0.1,
    target_modules=("q_proj", "k_proj", "v_proj"),
    full_modules=("embed_tokens", "lm_head"),
    full_projections=("q_proj", "k_proj", "v_proj"),
    full_last_layers=5,
)
PAPER_ASR = Training(batch=4, length=800, gpus=4, zero_stage=2)
SETTINGS = typed(Optimization, TINY_OPTIMIZATION)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def tiny(folder: Path, kind: str = "llama", dropout: float = 0.1, **sizes: Any) -> tuple[Any, Adapter]:
    """Configuration of a small model below `folder/model`, and how it is adapted."""
    plain_model(folder / "model", kind, **sizes)
    return AutoConfig.from_pretrained(folder / "model"), typed(Adapter, TINY_ADAPTER | {"dropout": dropout})


@pytest.mark.parametrize("kind", OTHERS)
def test_counts_are_those_of_the_model_that_is_trained(kind: str, tmp_path: Path) -> None:
    config, adapted = tiny(tmp_path, kind)
    model = describe(config, adapted)
    peft = adapter.trainable(tmp_path, None, adapted, 0)
    trained = {name: p.numel() for name, p in peft.named_parameters() if p.requires_grad}
    of = lambda part: sum(n for name, n in trained.items() if part in name)  # noqa: E731
    assert model.all == sum(p.numel() for p in peft.parameters())
    assert model.trainable == sum(trained.values())
    assert (model.lora, model.embeddings, model.head) == (of("lora_"), of("embed_tokens"), of("lm_head"))
    assert model.projections == of("_proj.base_layer") > 0
    assert model.largest == max(trained.values())
    assert model.head_trained
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.total == plain.num_parameters()
    stage = tmp_path / "stage"
    stage.mkdir()
    adapter.save(peft, stage)
    assert model.changed == sum(plain.get_parameter(name).numel() for name in changed_keys(tmp_path, stage))


def test_the_paper_s_model() -> None:
    """8.03 B parameters of Llama 3's text model, two rows of 4,096 for each of 10,000 units."""
    assert describe(LLAMA_8B, PAPER).total == 8_030_261_248
    model = describe(LLAMA_8B, PAPER, vocabulary=128_256 + 10_000)
    assert model.total == 8_030_261_248 + 2 * 10_000 * 4096
    assert model.embeddings == model.head == 138_256 * 4096
    assert model.lora == 32 * 64 * ((4096 + 4096) + 2 * (4096 + 1024))
    assert model.projections == 5 * 4096 * (4096 + 2 * 1024)
    assert model.trainable == 1_296_171_008
    assert LLAMA_8B.vocab_size == 128_256


class Live(TorchDispatchMode):
    """Bytes of the storages that live, and their peak."""

    def __init__(self, *tensors: torch.Tensor):
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()
        for tensor in tensors:
            self.see(tensor)

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, storage._cdata, storage.nbytes())

    def drop(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return out


def masks(model: Model, training: Training) -> int:
    """What dropout's mask has more on a CPU, where it has the type of what it masks and not a byte an element."""
    return (training.element - 1) * model.lora_inputs * training.tokens if model.dropout else 0


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("kind", OTHERS)
def test_activations_are_what_autograd_keeps(
    kind: str, precision: Any, dropout: float, checkpointing: bool, tmp_path: Path
) -> None:
    config, adapted = tiny(tmp_path, kind, dropout)
    peft = adapter.trainable(tmp_path, None, adapted, 0, DTYPES[precision])
    learner = prepare(peft, replace(SETTINGS, gradient_checkpointing=checkpointing)).train()
    training = Training(batch=3, length=50, precision=precision, gradient_checkpointing=checkpointing)
    own = {p.untyped_storage().data_ptr() for p in [*peft.parameters(), *peft.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(config.vocab_size, (training.batch, training.length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner(ids, ids)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    measured -= 4 * config.vocab_size * training.batch * (training.length - 1)  # log-probabilities, part of the logits
    model = describe(config, adapted)
    expected = estimate(model, training).activations
    if not checkpointing:
        expected += config.num_hidden_layers * masks(model, training)
    assert measured == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("vocabulary", "intermediate"), [(300, 512), (6000, 48)])
def test_the_peak_is_that_of_all_live_tensors(
    vocabulary: int, intermediate: int, checkpointing: bool, tmp_path: Path
) -> None:
    """Once where the layers decide it, once where the logits do."""
    config, adapted = tiny(tmp_path, vocab_size=vocabulary, intermediate_size=intermediate, num_hidden_layers=6)
    peft = adapter.trainable(tmp_path, None, adapted, 0, torch.bfloat16)
    learner = prepare(peft, replace(SETTINGS, gradient_checkpointing=checkpointing)).train()
    training = Training(batch=8, length=100, gradient_checkpointing=checkpointing)
    ids = torch.randint(vocabulary, (training.batch, training.length))
    with Live(*peft.parameters()) as live:
        learner(ids, ids).backward()
    model = describe(config, adapted)
    expected = estimate(model, training)
    assert (expected.logits > expected.recomputed) is (vocabulary == 6000 or not checkpointing)
    total = expected.weights + max(expected.activations + max(expected.logits, expected.recomputed), expected.step)
    total += masks(model, training) * (1 if checkpointing and vocabulary == 300 else 0 if checkpointing else 6)
    assert live.peak == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_of_the_paper_s_model(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the 8 B model with tensors that have no data."""
    from peft import LoraConfig, get_peft_model
    from transformers.models.llama import modeling_llama

    # without data transformers cannot see that a mask is not needed
    monkeypatch.setattr(modeling_llama, "create_causal_mask", lambda **arguments: None)
    training = replace(PAPER_ASR, batch=2, gpus=1, zero_stage=0, labelled=0.5, gradient_checkpointing=checkpointing)
    model = describe(LLAMA_8B, PAPER, 138_256)
    with torch.device("meta"):
        config = LlamaConfig(**LLAMA_8B.to_dict() | {"vocab_size": 138_256, "dtype": torch.bfloat16})
        lora = LoraConfig(r=64, lora_dropout=0.1, target_modules=list(PAPER.target_modules), task_type="CAUSAL_LM")
        base = AutoModelForCausalLM.from_config(config)
        peft: Any = get_peft_model(base, lora).bfloat16()
    for name, parameter in peft.named_parameters():
        parameter.requires_grad_("lora_" in name or adapter.is_full(name, 32, PAPER))
    assert sum(p.numel() for p in peft.parameters() if p.requires_grad) == model.trainable
    prepare(peft, replace(SETTINGS, gradient_checkpointing=checkpointing)).train()
    with FakeTensorMode():
        for module in peft.modules():
            for held in (module._parameters, module._buffers):
                for name, old in held.items():
                    if old is not None:
                        new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                        held[name] = torch.nn.Parameter(new, old.requires_grad) if held is module._parameters else new
        with Live(*peft.parameters()) as live:
            hidden = base.model(input_ids=torch.zeros(2, 800, dtype=torch.long), use_cache=False).last_hidden_state
            hidden = hidden.reshape(-1, 4096)[: training.labels]
            logits = base.lm_head(hidden)
            labels = torch.zeros(training.labels, dtype=torch.long)
            loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
            del hidden, logits
            loss.backward()
    expected = estimate(model, training)
    total = expected.total - expected.optimizer - memory.OVERHEAD
    total += 0 if checkpointing else 32 * masks(model, training)
    # gradients are counted as if they were all there at the peak
    assert live.peak <= total <= 1.1 * live.peak


DEEPSPEED = """
import json, os, sys, tempfile
from pathlib import Path
os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
os.environ["MASTER_PORT"] = sys.argv[2]
import deepspeed, torch
from src.grid.typed import typed
from src.model import adapter
from src.model.settings import Adapter
from src.train.loss import ResponseLoss
from tests.conftest import TINY_ADAPTER

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
deepspeed.init_distributed(dist_backend="gloo", verbose=False)
found = {}
for precision in ("bf16", "fp32"):
    for stage in (0, 1, 2, 3):
        model = adapter.trainable(Path(sys.argv[1]), None, typed(Adapter, TINY_ADAPTER), 0)
        trained = [p for p in model.parameters() if p.requires_grad]
        settings = {
            "train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True, "steps_per_print": 10**9,
            "bf16": {"enabled": precision == "bf16"}, "gradient_clipping": 1.0,
            "zero_optimization": {"stage": stage, "reduce_bucket_size": 10**6},
        }
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        engine, *_ = deepspeed.initialize(
            model=ResponseLoss(model), model_parameters=trained, optimizer=optimizer, config=settings
        )
        ids = torch.randint(50, (2, 8))
        engine.backward(engine(ids, ids))
        engine.step()
        moments = [t for s in optimizer.state.values() for name, t in s.items() if name != "step"]
        if stage == 3:
            weights = engine.optimizer.fp32_partitioned_groups_flat
        else:
            weights = [p for group in optimizer.param_groups for p in group["params"]]
        own = {p.data_ptr() for p in model.parameters()}
        weights = [p for p in weights if p.data_ptr() not in own]
        with tempfile.TemporaryDirectory() as folder:
            engine.save_checkpoint(folder, tag="x", exclude_frozen_parameters=True)
            size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        found[f"{precision}-{stage}"] = [sum(t.nbytes for t in moments + weights), size]
print("RESULT", json.dumps(found))
"""


@pytest.mark.slow
def test_optimizer_states_are_deepspeed_s_to_the_byte_and_checkpoints_nearly(tmp_path: Path) -> None:
    config, adapted = tiny(tmp_path, vocab_size=2000)
    model = describe(config, adapted)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    command = [sys.executable, "-c", DEEPSPEED, str(tmp_path), port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("RESULT")[1])
    assert len(found) == 8
    for name, (states, checkpoint) in found.items():
        precision, stage = name.split("-")
        training = Training(1, 8, zero_stage=int(stage), precision=precision)
        assert states == optimizer_bytes(model.trainable, training), name
        assert checkpoint == pytest.approx(disk(model, training).checkpoint, rel=0.1), name


def test_a_stage_and_a_model_on_disk(tmp_path: Path) -> None:
    config, adapted = tiny(tmp_path)
    peft = adapter.trainable(tmp_path, None, adapted, 0)
    (tmp_path / "stage").mkdir()
    adapter.save(peft, tmp_path / "stage")
    size = lambda folder: sum(f.stat().st_size for f in folder.rglob("*.safetensors"))  # noqa: E731
    expected = disk(describe(config, adapted), Training(1, 8, precision="fp32"))
    assert size(tmp_path / "stage") == pytest.approx(expected.artifact, rel=0.05)
    assert size(tmp_path / "model") == pytest.approx(expected.model, rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_flops_are_those_that_torch_counts(kind: str, checkpointing: bool, tmp_path: Path) -> None:
    config, adapted = tiny(tmp_path, kind, hidden_size=64, intermediate_size=160)
    model = describe(config, adapted)
    peft = adapter.trainable(tmp_path, None, adapted, 0)
    # the products of eager attention are counted
    settings = replace(SETTINGS, attention="eager", gradient_checkpointing=checkpointing)
    learner = prepare(peft, settings).train()
    training = Training(batch=2, length=40, labelled=39 / 40, gradient_checkpointing=checkpointing)
    ids = torch.randint(config.vocab_size, (2, 40))
    with FlopCounterMode(display=False) as counter:
        learner(ids, ids).backward()
    assert counter.get_total_flops() / 80 == pytest.approx(flops_per_token(model, training), rel=0.01)


def test_gpu_hours_are_the_operations_at_a_share_of_the_peak() -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    a_second = UTILIZATION * 154.8e12
    hours = gpu_hours(model, PAPER_ASR, 10**8, 154.8)
    assert hours == pytest.approx(10**8 * flops_per_token(model, PAPER_ASR) / a_second / 3600)
    assert hours == gpu_hours(model, replace(PAPER_ASR, gpus=1, zero_stage=0), 10**8, 154.8)
    # between a model that is all frozen (4 a weight) and one that is all trained (6), attention apart
    attention = 12 * 32 * 4096 * 800
    assert 4 * model.total < flops_per_token(model, PAPER_ASR) - attention + 4 * model.embeddings < 6 * model.total


def test_shares_of_zero() -> None:
    """ZeRO, figure 1: states by all stages, gradients from the second, weights by the third."""
    model = describe(LLAMA_8B, PAPER, 138_256)
    alone = replace(PAPER_ASR, gpus=1, reduce_bucket=0)
    four = [estimate(model, replace(PAPER_ASR, zero_stage=stage, reduce_bucket=0)) for stage in range(4)]
    one = [estimate(model, replace(alone, zero_stage=stage)) for stage in range(4)]
    largest = 2 * model.largest
    assert [m.optimizer * 4 for m in four[1:]] == [m.optimizer for m in one[1:]]
    assert four[0].optimizer == one[0].optimizer
    assert [m.gradients for m in four[:2]] == [m.gradients for m in one[:2]]
    assert [(m.gradients - largest) * 4 for m in four[2:]] == [m.gradients - largest for m in one[2:]]
    assert {m.weights for m in [*four[:3], *one]} == {2 * model.all}
    assert four[3].weights == model.all * 2 // 4 + 2 * memory.LIVE_PARAMETERS
    assert len({m.activations for m in four}) == 1


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_teacher_is_the_whole_base_once_more_on_each_gpu(stage: int, precision: Any) -> None:
    """Frozen: no gradient and no state. LoRA is no part of it."""
    model = describe(LLAMA_8B, PAPER, 138_256)
    plain = replace(PAPER_ASR, zero_stage=stage, precision=precision)
    alone, taught = (estimate(model, replace(plain, teacher=teacher)) for teacher in (False, True))
    parameters = 8_030_261_248 + 2 * 10_000 * 4096
    assert taught.total - alone.total == parameters * (2 if precision == "bf16" else 4)
    assert replace(taught, teacher=0) == alone


def test_offloaded_parts_are_in_the_machine_s_memory() -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    on_gpu = estimate(model, replace(PAPER_ASR, zero_stage=3))
    off = estimate(model, replace(PAPER_ASR, zero_stage=3, offload_optimizer=True, offload_parameters=True))
    assert off.optimizer == 0 and off.step == 0
    assert off.weights == 2 * memory.LIVE_PARAMETERS
    assert off.host == on_gpu.optimizer + model.trainable * 4 // 4 + math.ceil(model.all * 2 / 4)
    assert on_gpu.host == 0


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize(("length", "sizes"), [(99, {"intermediate_size": 512}), (1, {"vocab_size": 20_000})])
def test_the_peak_of_answering_is_that_of_all_live_tensors(
    length: int, sizes: dict[str, int], kind: str, tmp_path: Path
) -> None:
    """Prompts that are nearly all of a batch, twice as many as there are slots, and once prompts of a token, where the
    logits decide it."""
    config, adapted = tiny(tmp_path, kind, num_hidden_layers=4, **sizes)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    prompts = [[i % 40 + 4 for i in range(length)] for _ in range(16)]
    with Live(*model.parameters()) as live:
        generate(model, prompts, 2, [], Decoding(temperature=1.0), batch_tokens=8 * (length + 2))
    needed = answering(describe(config, adapted), batch_tokens=8 * (length + 2), shortest=2)
    assert needed.weights == 2 * model.num_parameters() and needed.recognizer == 0
    assert live.peak == pytest.approx(needed.total - memory.OVERHEAD, rel=0.05)


def test_gradients_that_are_added_up_in_float32_take_four_bytes() -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    for stage, gpus, more in ((0, 1, 0), (1, 4, 2), (2, 1, 2), (2, 4, 0.5), (3, 4, 0.5)):
        settings = replace(PAPER_ASR, zero_stage=stage, gpus=gpus)
        plain, careful = (estimate(model, replace(settings, accumulation=kind)) for kind in (None, "fp32"))
        assert careful.gradients - plain.gradients == more * model.trainable
        assert replace(careful, gradients=plain.gradients) == plain


def test_answering_with_the_paper_s_model() -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    needed = answering(model, 65_536, 256, recognizer=4 * memory.WHISPER["openai/whisper-large-v3"])
    assert needed.cache == 65_536 * 131_072 == 8 * memory.GIB
    assert needed.working == math.ceil(65_536 / 65) * 138_256 * 6
    assert needed.recognizer == pytest.approx(5.75 * memory.GIB, rel=1e-3)
    assert needed.fits(32) and not needed.fits(31)
    less = answering(model, 16_384, 256, recognizer=needed.recognizer // 2)
    assert less.working == 1024 * (131_072 + 2 * (2 * 4096 + 3 * 14_336))
    assert needed.cache - less.cache == 49_152 * 131_072 and less.fits(22)


def test_a_fused_loss_keeps_no_logits() -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    plain, fused = (estimate(model, replace(PAPER_ASR, fused_loss=fused)).logits for fused in (False, True))
    head = (4 + 2) * model.vocabulary * model.hidden
    inputs = 2 * PAPER_ASR.labels * model.hidden
    assert plain == 12 * PAPER_ASR.labels * 138_256
    assert head + 2 * inputs <= fused <= head + 3.1 * inputs  # the chunk's tokens are rounded up to a power of two
    few = replace(PAPER_ASR, batch=1, length=10, fused_loss=True)
    assert estimate(model, few).logits == head + 2 * 10 * model.hidden + 2 * 138_256  # one token at a time


@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("gpu_gb", [8, 12, 16, 24, 32, 40, 48, 80])
def test_the_remedy_fits_and_none_of_it_can_be_left_out(gpus: int, gpu_gb: float) -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    training = replace(PAPER_ASR, gpus=gpus, zero_stage=2 if gpus > 1 else 0)
    changes = least_change(model, training, gpu_gb)
    assert (changes == {}) is estimate(model, training).fits(gpu_gb)
    if changes is None:
        smallest = replace(training, batch=1, zero_stage=3, gradient_checkpointing=True, offload_optimizer=True,
                           offload_parameters=True)  # fmt: skip
        assert not estimate(model, smallest).fits(gpu_gb)
        return
    assert estimate(model, replace(training, **changes)).fits(gpu_gb)
    for name in changes:
        try:
            fewer = replace(training, **{key: v for key, v in changes.items() if key != name})
        except ValueError:
            continue
        assert not estimate(model, fewer).fits(gpu_gb), name


def test_the_paper_s_setting_on_its_own_gpus_and_on_small_ones() -> None:
    model = describe(LLAMA_8B, PAPER, 138_256)
    assert estimate(model, PAPER_ASR).fits(48)
    assert estimate(model, PAPER_ASR).total / memory.GIB == pytest.approx(44.9, abs=0.05)
    changes = least_change(model, PAPER_ASR, 16) or {}
    assert changes["gradient_checkpointing"] and changes["zero_stage"] == 3 and changes["batch"] < PAPER_ASR.batch
    assert least_change(model, PAPER_ASR, 40) == {"gradient_checkpointing": True}
    assert least_change(model, PAPER_ASR, 80) == {}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"zero_stage": 4}, "zero_stage=4: must be 0, 1, 2 or 3"),
        ({"precision": "fp8"}, "precision=fp8: must be one of bf16, fp16, fp32"),
        ({"labelled": 0.0}, "labelled=0.0: must be above 0"),
        ({"batch": 0}, "batch=0: must be at least 1"),
        ({"zero_stage": 0, "offload_optimizer": True}, "offload_optimizer=true: needs zero_stage"),
        ({"offload_parameters": True}, "offload_parameters=true: needs zero_stage=3, not 2"),
    ],
)
def test_a_setting_that_cannot_be_is_named(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(PAPER_ASR, **change)


def test_a_model_of_which_nothing_is_trained_is_refused() -> None:
    nothing = replace(PAPER, target_modules=(), full_modules=("wte",), full_projections=())
    with pytest.raises(ValueError, match=r"none of \('wte',\) is a module of the model"):
        describe(LLAMA_8B, nothing)


def test_the_formulas_need_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from src.machine import changes, disk, hours, training; training.Training(1, 8); "
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
