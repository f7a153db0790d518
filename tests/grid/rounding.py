"""Prints what this processor computes, as checksums by library, with the instructions that the environment fixes."""

import hashlib
import json

import numpy
import scipy.fft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from src.evaluate.generate import generate
from src.grid.instructions import described


def checksum(*arrays: object) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(numpy.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def trained() -> LlamaForCausalLM:
    """A small Llama after three steps of AdamW."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=False, eos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.98), fused=True)
    for _ in range(3):
        ids = torch.randint(2, 200, (16, 48))
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    drawn = torch.randn(3000)
    model = trained()
    prompts = [[(7 * i + j) % 198 + 2 for j in range(5 + i)] for i in range(12)]
    responses = generate(model, prompts, 16, {1})
    signal = drawn.reshape(2, 30, 50)
    convolved = torch.nn.functional.gelu(torch.nn.functional.conv1d(signal, drawn[: 40 * 30 * 2].reshape(40, 30, 2)))
    # from whole numbers, so that NumPy's part does not hang on PyTorch's
    table = (numpy.arange(160 * 300) * 7919 % 2003 / 1001 - 1).reshape(160, 300)
    product = table @ table.T
    eigenvalues = numpy.linalg.eigvalsh(product)
    spectrum = scipy.fft.dct(numpy.log1p(numpy.exp(table.astype(numpy.float32))), axis=1)
    checksums = {
        "random numbers": checksum(drawn),
        "training": checksum(*(p.detach() for p in model.parameters())),
        "generation": checksum([token for response in responses for token in response]),
        "convolution": checksum(convolved),
        "numpy": checksum(product, eigenvalues, table.std(axis=0)),
        "scipy": checksum(spectrum),
    }
    print(json.dumps({"instructions": described(), "checksums": checksums}))


if __name__ == "__main__":
    main()
