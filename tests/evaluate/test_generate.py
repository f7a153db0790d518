"""Generation against transformers' own, and against itself in other batches."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from src.evaluate import continuous, padded, slots
from src.evaluate.asking import Decoding
from src.evaluate.generate import generate
from src.evaluate.room import LEAST, WANTED, room

END = 2
STOP = tuple(range(2, 60, 9))


@pytest.fixture(scope="module", params=[4, 2], ids=["multi-head", "grouped-query"])
def model(request) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=request.param,
        max_position_embeddings=256,
        initializer_range=0.5,
        eos_token_id=list(STOP),
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def some_prompts(count: int = 40, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(3, 60) for _ in range(rng.randint(1, 40))] for _ in range(count)]


def reference(model, prompt: list[int], limit: int, **options) -> list[int]:
    """transformers' own greedy response to one prompt, without the ending."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    out = model.generate(ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, **options)[0]
    response = out[len(prompt) :].tolist()
    return response[:-1] if response[-1] in STOP else response


@pytest.mark.parametrize("batch_tokens", [1, 300, 10**6])
def test_greedy_equals_transformers(model, batch_tokens):
    prompts = some_prompts()
    ours = generate(model, prompts, 25, STOP, batch_tokens=batch_tokens)
    theirs = [reference(model, prompt, 25) for prompt in prompts]
    assert ours == theirs
    lengths = {len(response) for response in ours}
    assert 25 in lengths and len(lengths) > 5, "the prompts must end at different steps for this test to mean anything"


def test_greedy_equals_transformers_on_a_padded_batch(model):
    prompts = some_prompts(12, seed=1)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    out = model.generate(ids, attention_mask=mask, max_new_tokens=25, do_sample=False)[:, width:].tolist()
    theirs = []
    for row in out:
        end = next((i for i, token in enumerate(row) if token in STOP), len(row))
        theirs.append(row[:end])
    assert generate(model, prompts, 25, STOP) == theirs


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_response_does_not_depend_on_its_batch(model, temperature):
    prompts = some_prompts()
    decoding = Decoding(temperature, 20, seed=3)
    together = generate(model, prompts, 20, STOP, decoding, batch_tokens=10**6)
    assert generate(model, prompts, 20, STOP, decoding, batch_tokens=1) == together
    assert generate(model, prompts[:7], 20, STOP, decoding) == together[:7]


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "gemma3_text": {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_answers_as_it_does_alone(kind, temperature):
    """Small slots, refilled and put aside; the last family has a cache of another kind."""
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        kind, vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.5, pad_token_id=0, eos_token_id=2, tie_word_embeddings=False, **FAMILIES[kind],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    assert slots.fits(model) == (kind != "gemma3_text")
    prompts, decoding = some_prompts(), Decoding(temperature, 20, seed=3)
    together = generate(model, prompts, 70, STOP, decoding, batch_tokens=900)
    assert generate(model, prompts, 70, STOP, decoding, batch_tokens=1) == together
    if not temperature:
        assert together[::5] == [reference(model, p, 70, eos_token_id=list(STOP)) for p in prompts[::5]]
    assert max(map(len, together)) > 10


@pytest.mark.parametrize("way", [continuous, padded])
def test_what_does_not_fit_is_answered_in_smaller_batches(model, way, monkeypatch):
    """A GPU that takes 8 rows at a time, and one that takes not even one prompt."""
    prompts, decoding = some_prompts(), Decoding(temperature=1.0, top_k=0)
    whole = generate(model, prompts, 12, STOP, decoding, batch_tokens=800)
    monkeypatch.setattr("src.evaluate.generate.slots.fits", lambda _: way is continuous)
    forward, sizes = model.forward, []

    def limited(input_ids, **rest):
        sizes.append(len(input_ids))
        if len(input_ids) > limit:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model, "forward", limited)
    limit = 8
    told: dict[int, list[int]] = {}
    assert generate(model, prompts, 12, STOP, decoding, batch_tokens=800, finished=told.update) == whole
    assert max(sizes) > limit and [told[i] for i in range(len(prompts))] == whole
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        generate(model, prompts, 12, STOP, decoding, batch_tokens=800)


def test_rows_that_end_leave_their_slots_to_others(model, monkeypatch):
    """Slots for 6 rows: nearly all are filled in nearly every step, and none holds a row that has ended."""
    prompts = sorted(some_prompts(60, seed=4), key=len)
    forward, steps = model.forward, []

    def counted(input_ids, **rest):
        if input_ids.shape[1] == 1:
            steps.append(len(input_ids))
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model, "forward", counted)
    responses = generate(model, prompts, 20, STOP, batch_tokens=6 * 60)
    said = sum(min(len(response) + 1, 20) for response in responses)
    short = [prompt for prompt in prompts if len(prompt) == 1]
    assert sum(steps) - len(short) * 20 <= said - len(prompts) <= sum(steps)
    assert sum(steps) / len(steps) > 5 and max(steps) < 20


def test_a_row_without_room_goes_on_in_longer_slots(model, monkeypatch):
    """Answers of up to 100 tokens, first in slots for 64 of them."""
    prompts = some_prompts(80, seed=5)
    budget = 40 * 140
    batches = []
    begin = continuous._Batch.__init__

    def begun(batch, *rest):
        begin(batch, *rest)
        batches.append((len(batch.waiting), batch.length, batch.slots))

    monkeypatch.setattr(continuous._Batch, "__init__", begun)
    responses = generate(model, prompts, 100, (2,), batch_tokens=budget)
    assert responses == generate(model, prompts, 100, (2,), batch_tokens=10**6)
    longest = max(map(len, prompts))
    first, second, whole = batches
    assert whole[:2] == (80, longest + 100)
    assert first == (80, longest + LEAST, budget // (longest + LEAST)) and second[1] > first[1]
    assert second[0] == sum(len(p) + len(r) > first[1] for p, r in zip(prompts, responses, strict=True)) > 0


def test_room_is_all_that_may_come_or_leaves_enough_slots():
    rng = random.Random(0)
    for _ in range(500):
        longest, limit, rows = rng.randint(1, 500), rng.randint(1, 3000), rng.randint(1, 300)
        said = rng.randrange(limit)
        budget = rng.choice([500, 4096, 65536])
        found = room(longest, said, limit - said, budget, rows)
        assert min(limit - said, max(LEAST, said)) <= found <= limit - said
        wanted = min(WANTED, rows)
        if found < limit - said:
            assert budget // (longest + limit - said) < wanted
        if found > max(LEAST, said):
            assert found == limit - said or budget // (longest + found) >= wanted
    assert room(300, 0, 2000, 65536, 100) == 500 and room(12, 0, 40, 16384, 300) == 40


def test_sampling_follows_its_seed(model):
    prompts = some_prompts(20)
    one = generate(model, prompts, 15, STOP, Decoding(1.0, 50, seed=1))
    assert generate(model, prompts, 15, STOP, Decoding(1.0, 50, seed=1)) == one
    assert generate(model, prompts, 15, STOP, Decoding(1.0, 50, seed=2)) != one
    assert generate(model, prompts, 15, STOP, Decoding(1.0, 1, seed=1)) == generate(model, prompts, 15, STOP)
    state = torch.get_rng_state()
    generate(model, prompts, 3, STOP, Decoding(1.0))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.7, 5), (2.0, 12)])
def test_sampling_follows_the_distribution(model, temperature, top_k):
    prompt = [5, 9, 33]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double() / temperature
    if top_k:
        logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
    expected = logits.softmax(-1)
    count = 4000
    drawn = generate(model, [prompt] * count, 1, (), Decoding(temperature, top_k, seed=0), batch_tokens=10**6)
    found = torch.bincount(torch.tensor([token for (token,) in drawn]), minlength=60) / count
    error = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() <= 5 * error + 4 / count).all()
    assert (found[expected == 0] == 0).all()


def test_edges(model):
    assert generate(model, [], 5, STOP) == []
    assert generate(model, [[5]], 0, STOP) == [[]]
    prompts = some_prompts()
    whole = generate(model, prompts, 5, STOP)
    told: list[Mapping[int, list[int]]] = []
    known = {13: [7], 40: whole[30]}
    assert generate(model, prompts, 5, STOP, first=10, known=known, finished=told.append) == [
        *whole[:3], [7], *whole[4:]
    ]  # fmt: skip
    assert sorted(place for each in told for place in each) == sorted({*range(10, 50)} - {13, 40})
    with pytest.raises(ValueError, match="prompt 1 of 2 is empty"):
        generate(model, [[5], []], 5, STOP)


def test_the_model_is_left_in_its_mode(model):
    model.train()
    generate(model, [[5]], 2, STOP)
    assert model.training
    model.eval()


def test_greedy_equals_transformers_in_bfloat16(model):
    """One row a batch: in so few bits, other shapes round to other ties."""
    half = LlamaForCausalLM(model.config).bfloat16().eval()
    half.load_state_dict(model.state_dict())
    prompts = some_prompts(20)
    theirs = [reference(half, prompt, 15) for prompt in prompts]
    assert generate(half, prompts, 15, STOP, batch_tokens=1) == theirs


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_greedy_equals_transformers_on_a_gpu(model, dtype):
    there = LlamaForCausalLM(model.config).to(dtype).cuda().eval()
    there.load_state_dict(model.state_dict())
    prompts = some_prompts()
    for prompt, ours in zip(prompts, generate(there, prompts, 25, STOP, batch_tokens=1), strict=True):
        out = there.generate(torch.tensor([prompt]).cuda(), max_new_tokens=25, do_sample=False)[0]
        theirs = out[len(prompt) :].tolist()
        assert ours == (theirs[:-1] if theirs[-1] in STOP else theirs)
