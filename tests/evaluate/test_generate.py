"""Generation against transformers' own, and against itself in other batches."""

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from src.evaluate import generate as module
from src.evaluate.asking import Decoding
from src.evaluate.generate import _batches, generate

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


def test_a_batch_that_does_not_fit_is_halved_and_its_responses_stay(model, monkeypatch):
    """A GPU that takes 200 tokens a batch, and one that takes not even one prompt."""
    prompts, decoding = some_prompts(), Decoding(temperature=1.0, top_k=0)
    whole = generate(model, prompts, 12, STOP, decoding, batch_tokens=800)
    compute = module._batch
    sizes: list[int] = []
    finished: list[int] = []

    def limited(model, prompts, longest, *rest):
        sizes.append(len(prompts) * (max(map(len, prompts)) + longest))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError
        return compute(model, prompts, longest, *rest)

    monkeypatch.setattr(module, "_batch", limited)
    limit = 200
    assert generate(model, prompts, 12, STOP, decoding, batch_tokens=800, finished=finished.append) == whole
    assert max(sizes) > limit and sum(finished) == len(prompts) and len(finished) > 5
    limit = 10
    with pytest.raises(torch.OutOfMemoryError):
        generate(model, prompts, 12, STOP, decoding, batch_tokens=800)


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


def test_batches_keep_the_budget_and_every_prompt():
    rng = random.Random(0)
    lengths = [rng.randint(1, 90) for _ in range(200)]
    batches = list(_batches(lengths, 10, 500))
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    for batch in batches:
        assert len(batch) * (max(lengths[i] for i in batch) + 10) <= 500
    assert list(_batches([100, 3], 10, 50)) == [[0], [1]]


def test_edges(model):
    assert generate(model, [], 5, STOP) == []
    assert generate(model, [[5]], 0, STOP) == [[]]
    counts: list[int] = []
    generate(model, some_prompts(), 5, STOP, batch_tokens=300, finished=counts.append)
    assert sum(counts) == 40 and len(counts) > 1
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
