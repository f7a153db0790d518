"""The prompts of IFEval, and what is wrong with prompts that are none."""

import difflib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.evaluate import checkers, user_rows

Example = Mapping[str, Any]
"""A prompt in IFEval's schema: key, prompt, instruction_id_list, and kwargs, one mapping for each instruction."""

FIELDS = ("key", "prompt", "instruction_id_list", "kwargs")
PATTERNS = ("keyword", "keywords", "forbidden_words", "section_spliter", "postscript_marker")
"""Arguments that the checkers read as regular expressions."""
COUNT = "a whole number above 0"


def load(source: str | Path, config: str | None = None, revision: str | None = None) -> list[dict[str, Any]]:
    """The prompts of a JSONL file, or of the train split of a dataset on the hub (google/IFEval), in its order.

    Arguments that are None or NaN are dropped, as the hub and pandas fill them in, and counts that pandas made floats
    of (2.0) are whole again. config and revision are the hub's. Raises FileNotFoundError if there is no such file,
    ValueError with one line for each problem in it.
    """
    if user_rows.is_local(source):
        return validated(source, user_rows.read_rows(Path(source)))
    return validated(source, user_rows.hub_rows(str(source), config, revision))


def validated(source: str | Path, placed: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The prompts of rows with their places, with their arguments as `load` says.

    Raises ValueError with one line for each problem in them.
    """
    examples, problems = [], []
    places: dict[str, str] = {}
    for place, row in placed:
        found = list(_problems(row))
        if not found:
            key = str(row["key"])
            if places.setdefault(key, place) != place:
                found = [f"a second prompt with key {key}; the first is {places[key]}"]
        problems += [f"{place}: {problem}" for problem in found]
        if not found:
            examples.append({**row, "kwargs": [_given(kwargs) for kwargs in row["kwargs"]]})
    user_rows.raise_problems(problems)
    if not examples:
        raise ValueError(f"{source}: has no prompts")
    return examples


def _problems(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a prompt, and what would be right."""
    missing = [name for name in FIELDS if name not in row]
    if missing:
        yield f"has no {' and no '.join(missing)}: a prompt has {', '.join(FIELDS)}"
        return
    if isinstance(row["key"], bool) or not isinstance(row["key"], int | str):
        yield f"key must be a number or a string, not {json.dumps(row['key'])}"
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        yield f"prompt must be a text, not {json.dumps(row['prompt'])}"
    names, arguments = row["instruction_id_list"], row["kwargs"]
    if not isinstance(names, list) or not names:
        yield "instruction_id_list must be a list of one instruction or more"
    elif not isinstance(arguments, list) or len(arguments) != len(names):
        yield f"kwargs must be a list of {len(names)} objects, one for each instruction ({{}} where it has no argument)"
    else:
        for name, kwargs in zip(names, arguments, strict=True):
            yield from _instruction_problems(name, kwargs)


def _instruction_problems(name: Any, kwargs: Any) -> Iterator[str]:
    known = checkers.load().instructions_registry.INSTRUCTION_DICT
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        right = f"did you mean {near[0]}?" if near else f"it must be one of {', '.join(known)}"
        yield f"unknown instruction {json.dumps(name)}; {right}"
        return
    if not isinstance(kwargs, dict | None):
        yield f"the kwargs of {name} must be an object, not {json.dumps(kwargs)}"
        return
    kwargs = _given(kwargs)
    taken = [argument for argument in inspect.signature(known[name].build_description).parameters if argument != "self"]
    takes = f"it takes {', '.join(taken)}" if taken else "it takes none"
    wrong = []
    for argument, value in kwargs.items():
        if argument not in taken:
            wrong.append(f"{name} has no argument {argument}; {takes}")
        elif not _fits(argument, value):
            wrong.append(f"{argument} of {name} must be {_kind(argument)}, not {json.dumps(value)}")
        elif argument == "language" and value not in checkers.load().instructions_registry.instructions._LANGUAGES:
            languages = ", ".join(checkers.load().instructions_registry.instructions._LANGUAGES)
            wrong.append(f"language of {name} must be one of {languages}, not {json.dumps(value)}")
        elif argument in PATTERNS:
            for pattern in [value] if isinstance(value, str) else value:
                try:
                    re.compile(pattern)
                except re.error as error:
                    wrong.append(
                        f"{argument} of {name} is read as a regular expression, and {json.dumps(pattern)} is none "
                        f"({error}); literally it would be {json.dumps(re.escape(pattern))}"
                    )
    yield from wrong
    if not wrong:
        with checkers.random_state_kept():
            try:
                checkers.build(name, kwargs)
            except (TypeError, ValueError) as error:
                yield f"{name} does not accept {json.dumps(kwargs)} ({error}); {takes}"


def _kind(argument: str) -> str:
    if argument in ("keywords", "forbidden_words"):
        return "a list of strings"
    return COUNT if _counts(argument) else "a string"


def _counts(argument: str) -> bool:
    return argument.startswith(("num_", "nth_")) or argument.endswith("frequency")


def _fits(argument: str, value: Any) -> bool:
    kind = _kind(argument)
    if kind == "a list of strings":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if kind == COUNT:  # the official scorer takes 0 for an argument that is not given, and draws one
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, str)


def _given(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments that are set, whole counts as integers."""
    given = {}
    for name, value in (kwargs or {}).items():
        if value is None or value != value:  # NaN
            continue
        given[name] = int(value) if _counts(name) and isinstance(value, float) and value.is_integer() else value
    return given
