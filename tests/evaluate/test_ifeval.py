"""Verdicts against lm-evaluation-harness's own scoring, prompts that are wrong, an import that reaches for nothing."""

import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from src.evaluate import checkers, ifeval, ifeval_prompts

SHARED = Path(__file__).parents[3] / "shared" / "data"
OFFICIAL = SHARED / "ifeval" / "input_data.jsonl"
NLTK_DATA = SHARED / "nltk_data"
needs_official = pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official prompts are not here")

# One prompt for each instruction: id, arguments, a response that follows it, one that does not.
EVERY: list[tuple[str, dict, str, str]] = [
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "RED AND", "RED"),
    ("change_case:english_capital", {}, "THIS IS AN ENGLISH SENTENCE ABOUT THE WEATHER", "This is not"),
    ("change_case:english_lowercase", {}, "this is an english sentence about the weather", "This is not"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Name a color."}, "name a color. Red", '"Name a color." Red'),
    ("combination:two_responses", {}, "red ****** blue", "red ****** red"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [town]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "red\nP.S. blue", "red"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part 1 Part 2", "Part 1"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* red\n- blue", "* red\n• blue"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*red* and *blue*", "*red* and *"),
    ("detectable_format:title", {}, "<<colors>>\nred", "<colors>"),
    ("keywords:existence", {"keywords": ["red", "blue"]}, "Blue or red", "red"),
    ("keywords:forbidden_words", {"forbidden_words": ["red"]}, "covered", "Red."),
    ("keywords:frequency", {"keyword": "red", "frequency": 2, "relation": "less than"}, "red", "red, red"),
    ("keywords:letter_frequency", {"letter": "r", "let_frequency": 2, "let_relation": "at least"}, "R, r", "red"),
    ("language:response_language", {"language": "fi"}, "Järven rannalla on punainen talo", "There is a red house"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "blue"},
     "red\n\nBlue, too", "blue\n\nred"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "red\n***\nblue", "red\n\nblue"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "Mr. X runs. So?", "Mr. X"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "red blue", "red-blue cat"),
    ("punctuation:no_comma", {}, "red and blue", "red, blue"),
    ("startend:end_checker", {"end_phrase": "The end."}, 'red. "The END."', "The end. Or not"),
    ("startend:quotation", {}, ' "red"', '"red'),
]  # fmt: skip


def example(*instructions: tuple[str, dict], key: int = 1, prompt: str = "say something") -> dict:
    return {
        "key": key,
        "prompt": prompt,
        "instruction_id_list": [name for name, _ in instructions],
        "kwargs": [kwargs for _, kwargs in instructions],
    }


NO_COMMA: tuple[str, dict] = ("punctuation:no_comma", {})
QUOTES: tuple[str, dict] = ("startend:quotation", {})
KEYWORD: tuple[str, dict] = ("keywords:existence", {"keywords": ["red"]})
HASH: tuple[str, dict] = (
    "keywords:letter_frequency",
    {"letter": "#", "let_frequency": 2, "let_relation": "at least"},
)


@pytest.fixture(autouse=True)
def nltk_data(monkeypatch):
    """nltk looks into our copy of its data too, where there is one."""
    checkers.load()
    import nltk

    monkeypatch.setattr(nltk.data, "path", [*nltk.data.path, str(NLTK_DATA)])


def skip_without_data(*examples: dict) -> None:
    try:
        ifeval.require_nltk_data(examples)
    except FileNotFoundError:
        pytest.skip("nltk's punkt_tab is not here")


def official(asked: dict, response: str) -> ifeval.Verdict:
    found = checkers.load().process_results(asked, [response])
    verdict = ifeval.Verdict(tuple(found["inst_level_strict_acc"]), tuple(found["inst_level_loose_acc"]))
    assert found["prompt_level_strict_acc"] == all(verdict.strict)
    assert found["prompt_level_loose_acc"] == all(verdict.loose)
    return verdict


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), EVERY, ids=[row[0] for row in EVERY])
def test_every_instruction(name, kwargs, good, bad):
    asked = example((name, kwargs))
    skip_without_data(asked)
    assert ifeval.check(asked, good) == official(asked, good)
    assert ifeval.check(asked, bad) == official(asked, bad)
    assert (ifeval.check(asked, good).strict, ifeval.check(asked, bad).strict) == ((True,), (False,))


def test_every_instruction_is_here():
    known = checkers.load().instructions_registry.INSTRUCTION_DICT
    assert [row[0] for row in EVERY] == sorted(known)


def test_each_instruction_has_its_verdict():
    assert ifeval.check(example(NO_COMMA, KEYWORD), "red and blue").strict == (True, True)
    assert ifeval.check(example(NO_COMMA, KEYWORD), "green, blue").strict == (False, False)
    assert ifeval.check(example(KEYWORD, NO_COMMA), "red, blue").strict == (True, False)


def test_empty_response_follows_nothing():
    assert ifeval.check(example(NO_COMMA), " \n") == ifeval.Verdict((False,), (False,))


def test_loose_forgives_a_first_line_and_asterisks():
    verdict = ifeval.check(example(QUOTES), 'Here it is:\n"red"')
    assert verdict == ifeval.Verdict((False,), (True,))
    assert ifeval.check(example(QUOTES), '*"red"*').loose == (True,)


def test_unset_arguments_are_as_absent():
    with_none = ("keywords:existence", {"keywords": ["red"], "letter": None, "num_words": None})
    assert ifeval.check(example(with_none), "red").strict == (True,)


def test_unknown_instruction_is_named():
    with pytest.raises(ValueError, match="IFEval prompt 7: unknown instruction colors:red"):
        ifeval.check(example(("colors:red", {}), key=7), "red")


def test_scores_at_both_levels():
    verdicts = [
        ifeval.Verdict((True, True, False), (True, True, True)),
        ifeval.Verdict((True,), (True,)),
        ifeval.Verdict((False, False), (False, True)),
    ]
    found = ifeval.scores(verdicts)
    assert {name: (entry["value"], entry["n"]) for name, entry in found.items()} == {
        "prompt_strict": (1 / 3, 3),
        "instruction_strict": (3 / 6, 6),
        "prompt_loose": (2 / 3, 3),
        "instruction_loose": (5 / 6, 6),
    }
    assert found["prompt_strict"]["standard_error"] == pytest.approx(statistics.pstdev([0, 1, 0]) / 3**0.5)


def test_breakdown_by_group_and_by_instruction():
    forbidden = ("keywords:forbidden_words", {"forbidden_words": ["blue"]})
    examples = [example(KEYWORD, NO_COMMA, forbidden), example(KEYWORD)]
    verdicts = [ifeval.Verdict((True, False, False), (True, True, False)), ifeval.Verdict((True,), (True,))]
    found = ifeval.breakdown(examples, verdicts)
    assert list(found["group"]) == ["keywords", "punctuation"]
    assert list(found["instruction"]) == ["keywords:existence", "keywords:forbidden_words", "punctuation:no_comma"]
    assert (found["group"]["keywords"]["strict"]["value"], found["group"]["keywords"]["strict"]["n"]) == (2 / 3, 3)
    assert found["group"]["keywords"]["strict"]["clusters"] == 2
    assert found["group"]["punctuation"]["loose"]["value"] == 1
    assert found["instruction"]["keywords:existence"]["strict"]["n"] == 2


def test_chance_is_fixed_and_leaves_no_trace():
    """The official checker draws a random letter for '#'."""
    drawn = example(HASH)
    responses = [letter * 3 for letter in "abcdefghijklmnopqrstuvwxyz"]
    random.seed(0)
    state = random.getstate()
    first = [ifeval.check(drawn, response) for response in responses]
    assert random.getstate() == state
    random.seed(123)
    assert [ifeval.check(drawn, response) for response in responses] == first
    assert sum(verdict.strict[0] for verdict in first) == 1, "one and the same letter for every response"


def test_prompts_of_chance_are_named():
    left_open = ("length_constraints:number_words", {"num_words": 3})
    asked = [(KEYWORD,), (NO_COMMA, HASH), (left_open,), (QUOTES,)]
    examples = [example(*instructions, key=key) for key, instructions in enumerate(asked, start=1)]
    state = random.getstate()
    assert ifeval.chance(examples) == [2, 3]
    assert random.getstate() == state


def test_language_detection_is_repeatable():
    asked = example(("language:response_language", {"language": "de"}))
    mixed = "das ist the red and die blaue blue house"
    assert len({ifeval.check(asked, mixed) for _ in range(20)}) == 1


def test_prompts_of_a_file(tmp_path):
    rows = [example((name, {**kwargs, "unset": None}), key=i) for i, (name, kwargs, _, _) in enumerate(EVERY)]
    loaded = ifeval_prompts.load(write(tmp_path / "prompts.jsonl", "\ufeff" + json.dumps(rows[0]), *rows[1:], "", " "))
    assert loaded == [example((name, kwargs), key=i) for i, (name, kwargs, _, _) in enumerate(EVERY)]


def test_what_pandas_makes_of_counts_is_read_as_they_were(tmp_path):
    """A table with a gap has floats in its columns, and NaN or null for what is not given."""
    import pandas

    rows = [(name, kwargs) for name, kwargs, _, _ in EVERY]
    table = pandas.DataFrame([kwargs for _, kwargs in rows]).to_dict("records")
    assert {type(one["num_words"]) for one in table} == {float}
    made = [example((name, kwargs), key=i) for i, ((name, _), kwargs) in enumerate(zip(rows, table, strict=True))]
    loaded = ifeval_prompts.load(write(tmp_path / "prompts.jsonl", *made))
    assert loaded == [example((name, kwargs), key=i) for i, (name, kwargs) in enumerate(rows)]
    values = [value for each in loaded for value in each["kwargs"][0].values() if not isinstance(value, str | list)]
    assert values and {type(value) for value in values} == {int}


def test_prompts_of_the_hub(monkeypatch):
    """Arrow fills every argument of every prompt with None, as it does in google/IFEval."""
    import datasets

    rows = [example(NO_COMMA, KEYWORD, key=1), example(EVERY[-4][:2], key=2)]
    stored = datasets.Dataset.from_list(rows)
    assert stored[0]["kwargs"][0] == {"keywords": None, "num_words": None, "relation": None}
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return stored

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert ifeval_prompts.load("someone/ifeval", "fi", "abc") == rows
    assert asked == [(("someone/ifeval", "fi"), {"data_files": None, "split": "train", "revision": "abc"})]


def test_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    import datasets

    def fail(*arguments, **options):
        raise ConnectionError("no network\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ValueError, match=r"^google/IFEval could not be loaded .*ConnectionError: no network\).* path$"):
        ifeval_prompts.load("google/IFEval")


@pytest.mark.parametrize("source", ["nowhere.jsonl", "nowhere/prompts.jsonl", "a/b/c"])
def test_source_that_is_nowhere(source):
    with pytest.raises(FileNotFoundError, match="no such file, nor the name of a dataset"):
        ifeval_prompts.load(source)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ([], "must be a JSON object, not []"),
        ({"key": 1, "prompt": "x"}, "has no instruction_id_list and no kwargs: a prompt has key, prompt,"),
        (example(KEYWORD) | {"key": None}, "key must be a number or a string, not null"),
        (example(KEYWORD) | {"prompt": " "}, 'prompt must be a text, not " "'),
        (example(), "must be a list of one instruction or more"),
        (example(KEYWORD, QUOTES) | {"kwargs": [{}]}, "kwargs must be a list of 2 objects, one for each instruction"),
        (example(("keyword:existence", {})), 'unknown instruction "keyword:existence"; did you mean keywords:ex'),
        (example(("punctuation:no_comma", {"x": 1})), "punctuation:no_comma has no argument x; it takes none"),
        (example(("keywords:existence", {"keywords": "x"})), "keywords of keywords:existence must be a list of str"),
        (example(("length_constraints:number_words", {"num_words": "3"})), 'must be a whole number above 0, not "3"'),
        (example(("length_constraints:number_words", {"num_words": 0})), "must be a whole number above 0, not 0"),
        (example(("keywords:frequency", {"frequency": -1})), "frequency of keywords:frequency must be a whole number"),
        (example(("detectable_format:number_bullet_lists", {"num_bullets": 2.5})), "above 0, not 2.5"),
        (example(("detectable_format:number_bullet_lists", {"num_bullets": 1e999})), "above 0, not Infinity"),
        (example(("keywords:letter_frequency", {"let_frequency": True})), "above 0, not true"),
        (example(("length_constraints:nth_paragraph_first_word", {"nth_paragraph": 0.0})), "above 0, not 0"),
        (example(("length_constraints:number_words", {"relation": "more"})), "'at least'), but more is given"),
        (example(("keywords:frequency", {"keyword": ":("})), 'literally it would be ":\\\\("'),
        (example(("language:response_language", {"language": "xx"})), "must be one of en, es, pt, "),
        (example(("combination:repeat_prompt", {})), "prompt_to_repeat must be set"),
        (example(QUOTES), "a second prompt with key 1; the first is"),
    ],
)  # fmt: skip
def test_problem_of_a_prompts_file_names_the_line(tmp_path, row, message):
    path = write(tmp_path / "prompts.jsonl", example(NO_COMMA), example(NO_COMMA, key=2), row)
    with pytest.raises(ValueError) as raised:
        ifeval_prompts.load(path)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{path}:3: ")
    assert message in line


def test_every_problem_has_its_line(tmp_path):
    path = write(tmp_path / "prompts.jsonl", *[example(("colors:red", {}), key=i) for i in range(30)])
    with pytest.raises(ValueError) as raised:
        ifeval_prompts.load(path)
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [f"{path}:{number}" for number in range(1, 21)]
    assert lines[-1] == "and 10 more problems"


def test_file_without_prompts(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        ifeval_prompts.load(write(tmp_path / "prompts.jsonl", ""))


IMPORT = """
import socket, sys
def refuse(*arguments, **options):
    raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import os
from src.evaluate import checkers
checkers.load()
print(os.environ.get("LOCAL_RANK"), [name for name in ("datasets", "sklearn", "pandas") if name in sys.modules])
from lm_eval.tasks import TaskManager
import sklearn.svm
"""


def test_import_reaches_for_nothing(tmp_path):
    """Without nltk data, without a network; and what is kept out of the import can be imported afterwards."""
    environment = {"PATH": "", "NLTK_DATA": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None []\n"


def test_missing_nltk_data_is_explained(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    asked = example(("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "at least"}))
    ifeval.require_nltk_data([example(NO_COMMA)])
    with pytest.raises(FileNotFoundError, match=r"1 prompts need it .*nltk\.downloader punkt_tab.*NLTK_DATA"):
        ifeval.require_nltk_data([example(NO_COMMA), asked])
    nltk.tokenize._get_punkt_tokenizer.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"punkt_tab was not found"):
        ifeval.check(asked, "RED and BLUE")


@pytest.fixture(scope="module")
def prompts() -> list[dict]:
    return ifeval_prompts.load(OFFICIAL)


@needs_official
@pytest.mark.slow
@pytest.mark.parametrize("respond", [str, str.upper, lambda prompt: ""], ids=["prompt", "upper", "empty"])
def test_verdicts_are_the_official_ones_on_the_official_prompts(prompts, respond):
    chance = ifeval.chance(prompts)
    skip_without_data(*prompts)
    compared = 0
    for asked in prompts:
        response = respond(asked["prompt"])
        if asked["key"] not in chance:
            assert ifeval.check(asked, response) == official(asked, response), asked["key"]
            compared += 1
    assert compared == 539


@needs_official
def test_two_official_prompts_are_chance(prompts):
    assert (len(prompts), sum(len(asked["instruction_id_list"]) for asked in prompts)) == (541, 834)
    assert ifeval.chance(prompts) == [1122, 1129]


TWICE = """
import hashlib, sys
from pathlib import Path
from src.evaluate import ifeval, ifeval_prompts
digest = hashlib.sha256()
by_chance = {"keywords:letter_frequency", "language:response_language", "change_case:english_lowercase"}
for asked in ifeval_prompts.load(Path(sys.argv[1])):
    if by_chance & set(asked["instruction_id_list"]) and not ifeval.NEED_PUNKT & set(asked["instruction_id_list"]):
        for response in (asked["prompt"], "das ist the red and die blaue blue house", "EI PUNAISTA"):
            digest.update(repr(ifeval.check(asked, response)).encode())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
    """On what the official checkers draw letters and detect languages for."""
    path = OFFICIAL
    if not OFFICIAL.is_file():
        path = write(tmp_path / "prompts.jsonl", *[example((row[0], row[1]), key=i) for i, row in enumerate(EVERY)],
                     *[example(HASH, key=100 + i) for i in range(20)])  # fmt: skip
    seen = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", TWICE, path], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1
