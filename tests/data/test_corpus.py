"""What may and what must not be in the corpus."""

import json
from pathlib import Path

from src.data import corpus, facts, jsonl
from src.data.settings import ClosedDomain
from tests.conftest import TINY_CORPUS


def texts(folder: Path, name: str) -> list[str]:
    return [turn["content"] for row in jsonl.read(folder / f"{name}.jsonl") for turn in row["messages"]]


def test_evaluation_facts_are_in_the_base_text_alone(tiny_corpus: Path) -> None:
    writer = corpus.Writer(ClosedDomain(**TINY_CORPUS))
    held = {q: fact.answer for known in writer.evaluation.values() for fact in known for q in facts.questions(fact)}
    for name in ("asr", "tts", "fit", "eval_asr"):
        assert not {row["text"] for row in jsonl.read(tiny_corpus / f"{name}.jsonl")} & set(held), name
    assert not {row["question"] for row in jsonl.read(tiny_corpus / "sqa.jsonl")} & set(held)
    pool = " | ".join(texts(tiny_corpus, "pool"))
    assert not [question for question in held if question in pool]
    assert [question for question in held if question in " | ".join(texts(tiny_corpus, "pool_with_evaluation_facts"))]
    assert [question for question in held if question in " | ".join(texts(tiny_corpus, "base"))]
    asked = {row["question"]: row["answers"] for row in jsonl.read(tiny_corpus / "eval_qa.jsonl")}
    assert all(held[question] == answers[0] for question, answers in asked.items())


def test_evaluation_sentences_are_spoken_nowhere_else(tiny_corpus: Path) -> None:
    held = {row["text"] for row in jsonl.read(tiny_corpus / "eval_asr.jsonl")}
    spoken = {row["text"] for name in ("asr", "tts", "fit") for row in jsonl.read(tiny_corpus / f"{name}.jsonl")}
    assert held and not held & (spoken | {row["question"] for row in jsonl.read(tiny_corpus / "sqa.jsonl")})


def test_evaluation_prompts_are_never_trained_on(tiny_corpus: Path) -> None:
    prompts = {row["prompt"] for row in jsonl.read(tiny_corpus / "eval_ifeval.jsonl")}
    for name in ("base", "pool", "pool_with_evaluation_facts"):
        assert not prompts & set(texts(tiny_corpus, name))


def test_every_word_is_in_the_vocabulary(tiny_corpus: Path) -> None:
    words = set(json.loads((tiny_corpus / "words.json").read_text()))
    from src.data.words import split_words

    for name in ("base", "pool"):
        assert {word for text in texts(tiny_corpus, name) for word in split_words(text)} <= words


def test_same_config_same_bytes(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus.write(ClosedDomain(**TINY_CORPUS), tmp_path)
    for file in tiny_corpus.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name
