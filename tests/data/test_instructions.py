"""The lab's instructions are IFEval's: the official checkers accept the reference responses."""

import random
from collections import Counter

from src.data import instructions
from src.data.words import split_words
from src.evaluate import ifeval
from src.model.tokenizer import build_tokenizer


def test_references_pass_the_official_checkers_even_after_the_tokenizer() -> None:
    rng = random.Random(5)
    drawn = [instructions.instruction(rng) for _ in range(400)]
    words = sorted({word for made in drawn for word in split_words(made.prompt + " " + made.response)})
    tokenizer = build_tokenizer(words, 2)
    for key, made in enumerate(drawn):
        decoded = str(tokenizer.decode(tokenizer(made.response)["input_ids"]))
        for response in (made.response, decoded):
            verdict = ifeval.check(made.ifeval(key), response)
            assert all(verdict.strict), (made, response, verdict)


def test_every_id_occurs_and_an_empty_answer_fails() -> None:
    rng = random.Random(6)
    drawn = [instructions.instruction(rng) for _ in range(600)]
    seen = Counter(kind for made in drawn for kind in made.instruction_id_list)
    assert set(seen) == set(instructions.IDS)
    assert len(seen) >= 8
    assert not any(any(ifeval.check(made.ifeval(0), "").strict) for made in drawn[:50])


def test_prompt_determines_the_response() -> None:
    rng = random.Random(7)
    responses: dict[str, str] = {}
    for _ in range(3000):
        made = instructions.instruction(rng)
        assert responses.setdefault(made.prompt, made.response) == made.response
