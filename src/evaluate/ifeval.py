"""Verifiable instructions (IFEval, arXiv 2311.07911), scored by lm-evaluation-harness's own checkers.

A prompt has one or more instructions out of 25. Strict: the response as it is. Loose: any of eight variants of it
(first or last line off, asterisks off) passes. Prompt level: all instructions of a prompt are followed; instruction
level: each counts by itself.

Verdicts are repeatable: language detection is seeded, and so is the random draw in which the official checkers end
where a prompt does not say enough (see `chance`).
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from src.evaluate import checkers
from src.evaluate.ifeval_prompts import FIELDS, Example
from src.evaluate.statistics import accuracy, clustered_accuracy

NEED_PUNKT = frozenset({"length_constraints:number_sentences", "change_case:capital_word_frequency"})
"""Instructions whose checkers split sentences with nltk's punkt_tab."""

@dataclass(frozen=True)
class Verdict:
    """Whether each instruction of a prompt was followed, in the prompt's order."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def check(example: Example, response: str) -> Verdict:
    """Check a response against an example.

    Raises ValueError for an instruction that the checkers do not know, FileNotFoundError where one needs nltk data
    that is not there.
    """
    official = checkers.load()
    for name in example["instruction_id_list"]:
        if name not in official.instructions_registry.INSTRUCTION_DICT:
            raise ValueError(f"IFEval prompt {example['key']}: unknown instruction {name}")
    made = official.InputExample(**{name: example[name] for name in FIELDS})
    with checkers.random_state_kept():
        try:
            random.seed(f"ifeval-{example['key']}")
            strict = official.test_instruction_following_strict(made, response)
            random.seed(f"ifeval-{example['key']}")
            loose = official.test_instruction_following_loose(made, response)
        except LookupError:
            require_nltk_data([example])
            raise
    return Verdict(tuple(strict.follow_instruction_list), tuple(loose.follow_instruction_list))


def scores(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """prompt_strict, instruction_strict, prompt_loose and instruction_loose: value, n and standard error of each.

    Instruction level is the flat mean over all instructions; its error is clustered by prompt.
    """
    found = {}
    for way in ("strict", "loose"):
        followed = [getattr(verdict, way) for verdict in verdicts]
        found[f"prompt_{way}"] = accuracy([all(each) for each in followed])
        found[f"instruction_{way}"] = clustered_accuracy(followed)
    return found


def breakdown(examples: Sequence[Example], verdicts: Sequence[Verdict]) -> dict[str, dict[str, dict[str, Any]]]:
    """Instruction-level scores of each part of the instructions, sorted by name.

    {"group": {"keywords": {"strict": entry, "loose": entry}, ...}, "instruction": {"keywords:existence": ...}}, where
    an entry has value, n and standard error, clustered by prompt.
    """
    return {
        "group": by_part(examples, verdicts, lambda name: name.split(":")[0]),
        "instruction": by_part(examples, verdicts, lambda name: name),
    }


def by_part(
    examples: Sequence[Example], verdicts: Sequence[Verdict], part: Callable[[str], str]
) -> dict[str, dict[str, Any]]:
    """The instruction-level scores, strict and loose, of each part; part: instruction id -> the part it belongs to."""
    clusters: dict[str, list[tuple[list[bool], list[bool]]]] = {}
    for example, verdict in zip(examples, verdicts, strict=True):
        of_prompt: dict[str, tuple[list[bool], list[bool]]] = {}
        for name, strict, loose in zip(example["instruction_id_list"], verdict.strict, verdict.loose, strict=True):
            pair = of_prompt.setdefault(part(name), ([], []))
            pair[0].append(strict)
            pair[1].append(loose)
        for name, pair in of_prompt.items():
            clusters.setdefault(name, []).append(pair)
    return {
        name: {
            "strict": clustered_accuracy([strict for strict, _ in pairs]),
            "loose": clustered_accuracy([loose for _, loose in pairs]),
        }
        for name, pairs in sorted(clusters.items())
    }


def chance(examples: Iterable[Example]) -> list[Any]:
    """Keys of the prompts whose verdict is chance in the official scorer.

    Its checkers draw what a prompt leaves open, or says in a way that they do not take: letter_frequency asked for
    "#" counts a letter drawn at random. Here the draw is fixed by the prompt's key.
    """
    drawn = []
    with checkers.random_state_kept():
        before = random.getstate()
        for example in examples:
            for name, kwargs in zip(example["instruction_id_list"], example["kwargs"], strict=True):
                checkers.build(name, kwargs)
            if random.getstate() != before:
                drawn.append(example["key"])
                before = random.getstate()
    return drawn


def require_nltk_data(examples: Iterable[Example]) -> None:
    """Raise FileNotFoundError if an instruction of the examples needs nltk's punkt_tab and nltk does not find it."""
    needing = [example["key"] for example in examples if NEED_PUNKT & set(example["instruction_id_list"])]
    if not needing:
        return
    checkers.load()
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError as error:
        raise FileNotFoundError(
            f"nltk's punkt_tab was not found, and {len(needing)} prompts need it to count sentences or words (key "
            f"{needing[0]} is the first): get it with `python -m nltk.downloader punkt_tab`, or set NLTK_DATA to the "
            "folder that holds tokenizers/punkt_tab"
        ) from error
