"""Mechanical checks of the fact tables and their question templates."""

import csv
import ctypes
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

FACTS = Path(__file__).resolve().parents[2] / "src" / "data" / "facts"
KEYS = {"countries": "country", "animals": "animal", "people": "person"}
ENTITIES, RELATIONS = 64, 6
MIN_VALUES, MAX_VALUES, MIN_USES, MAX_SHARE = 4, 20, 3, 0.36
MAX_SHARES = {("countries", "symbol"): 0.38}  # plain tricolors are that common
MAX_FUNCTION_WORDS, MAX_VOCABULARY, MAX_QUESTION_WORDS = 110, 450, 8
WORD = re.compile(r"[a-z]+")


def table(name):
    with open(FACTS / f"{name}.csv", newline="", encoding="ascii") as f:
        rows = list(csv.reader(f))
    return rows[0], rows[1:]


def templates():
    return yaml.safe_load((FACTS / "questions.yaml").read_text(encoding="ascii"))


def data_words():
    return {w for t in KEYS for row in table(t)[1] for w in row}


def function_words():
    return {w for t in templates().values() for qs in t.values() for q in qs for w in q.split() if w != "{e}"}


@pytest.mark.parametrize("name", KEYS)
def test_shape_and_words(name):
    head, rows = table(name)
    assert head[0] == KEYS[name] and len(head) == len(set(head)) == RELATIONS + 1
    assert len(rows) == ENTITIES and all(len(r) == len(head) for r in rows)
    assert [w for w in head + [cell for r in rows for cell in r] if not WORD.fullmatch(w)] == []
    assert [e for e, n in Counter(r[0] for r in rows).items() if n > 1] == []


def test_entities_belong_to_one_table():
    n = Counter(r[0] for t in KEYS for r in table(t)[1])
    assert [e for e, k in n.items() if k > 1] == []


@pytest.mark.parametrize("name", KEYS)
def test_balance(name):
    head, rows = table(name)
    for i, relation in enumerate(head[1:], 1):
        n = Counter(r[i] for r in rows)
        assert MIN_VALUES <= len(n) <= MAX_VALUES, (relation, n)
        assert min(n.values()) >= MIN_USES, (relation, n)
        assert max(n.values()) / len(rows) <= MAX_SHARES.get((name, relation), MAX_SHARE), (relation, n)


def test_nothing_borders_itself():
    head, rows = table("countries")
    i = head.index("neighbor")
    assert [r[0] for r in rows if r[0] == r[i]] == []


def test_templates():
    t = templates()
    assert list(t) == list(KEYS)
    for name, relations in t.items():
        assert list(relations) == table(name)[0][1:]
        for relation, questions in relations.items():
            assert 3 <= len(questions) <= 4, relation
            for q in questions:
                words = q.split(" ")
                assert words.count("{e}") == 1 and len(words) <= MAX_QUESTION_WORDS, q
                assert all(w == "{e}" or WORD.fullmatch(w) for w in words), q


def test_every_question_has_one_answer():
    asked: dict[str, set[tuple[str, str]]] = {}
    for name, relations in templates().items():
        _, rows = table(name)
        for relation, questions in relations.items():
            for q in questions:
                for r in rows:
                    asked.setdefault(q.replace("{e}", r[0]), set()).add((name, relation))
    assert [q for q, s in asked.items() if len(s) > 1] == []
    flat = [q for r in templates().values() for qs in r.values() for q in qs]
    assert len(flat) == len(set(flat)), "a template is shared by two relations"


def test_vocabulary_size():
    assert len(function_words()) <= MAX_FUNCTION_WORDS
    assert len(data_words() | function_words()) <= MAX_VOCABULARY


def phonemes():
    """word -> phoneme string, in American English, stress and length left out"""
    loader = pytest.importorskip("espeakng_loader")
    lib = ctypes.CDLL(loader.get_library_path())
    if lib.espeak_Initialize(2, 0, str(loader.get_data_path()).encode(), 0) < 0:
        pytest.skip("espeak does not start")
    lib.espeak_SetVoiceByName(b"en-us")
    lib.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def one(word):
        p = ctypes.c_char_p(word.encode())
        return re.sub("[ˈˌː ]", "", lib.espeak_TextToPhonemes(ctypes.byref(p), 1, 2).decode())

    return {w: one(w) for w in sorted(data_words() | function_words())}


def test_no_homophones():
    same: dict[str, list[str]] = {}
    for word, p in phonemes().items():
        assert p, word
        same.setdefault(p, []).append(word)
    assert [v for v in same.values() if len(v) > 1] == []
