"""The closed domain of the laptop profile: real facts about countries, animals and people, and how to ask for them."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from src.data.settings import CLOSED_DOMAIN_SETS

FOLDER = Path(__file__).parent / "facts"
TABLES = CLOSED_DOMAIN_SETS


@dataclass(frozen=True, order=True)
class Fact:
    table: str
    relation: str
    entity: str
    answer: str


@cache
def templates() -> dict[str, dict[str, list[str]]]:
    """table -> relation -> question templates with `{e}` for the entity."""
    return yaml.safe_load((FOLDER / "questions.yaml").read_text())


@cache
def facts(table: str) -> tuple[Fact, ...]:
    """Every fact of a table, row by row."""
    with (FOLDER / f"{table}.csv").open(newline="") as file:
        rows = csv.reader(file)
        _, *relations = next(rows)
        return tuple(
            Fact(table, relation, entity, answer)
            for entity, *answers in rows
            for relation, answer in zip(relations, answers, strict=True)
        )


@cache
def questions(fact: Fact) -> list[str]:
    """Every phrasing of the question that a fact answers."""
    return [template.format(e=fact.entity) for template in templates()[fact.table][fact.relation]]


def split(table: str, evaluation: int, seed: int) -> tuple[list[Fact], list[Fact]]:
    """(evaluation facts, training facts) of a table, drawn by `seed`."""
    drawn = random.Random(f"{seed}-{table}").sample(facts(table), len(facts(table)))
    return drawn[:evaluation], drawn[evaluation:]


@cache
def entities() -> list[str]:
    return list(dict.fromkeys(fact.entity for table in TABLES for fact in facts(table)))


def answers(table: str, relation: str) -> list[str]:
    """The distinct answers of a relation, most frequent first."""
    given = [fact.answer for fact in facts(table) if fact.relation == relation]
    return sorted(set(given), key=lambda answer: (-given.count(answer), answer))


@cache
def spoken_words() -> list[str]:
    """Every word that occurs in a question or an answer, in a fixed order."""
    asked: Sequence[str] = [
        word
        for relations in templates().values()
        for phrasings in relations.values()
        for phrasing in phrasings
        for word in phrasing.split()
        if word != "{e}"
    ]
    given = [fact.answer for table in TABLES for fact in facts(table)]
    return list(dict.fromkeys([*asked, *entities(), *given]))
