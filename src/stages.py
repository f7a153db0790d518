"""What a stage is: the sets of examples that it trains on, how each set's conversations are made, and its settings.

A stage is declared in `train.stages`: the sets it trains on, and the settings of training, adapter and replay that it
has for itself. `train.chain` names the stages in the order of training. A new form of data is an entry in SETS.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from src.checks import require
from src.data import jsonl, prompts
from src.data.replay import Replay
from src.data.unit_format import Units
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.model.settings import Adapter
from src.train.settings import Optimization

Conversation = list[dict[str, str]]
Settings = TypeVar("Settings")

ORIGINAL = "original"
"""The model before the first stage, where scores are told stage by stage."""
TEXT = "text"
"""The set of the base model's own text, which replay draws from before the first stage, too."""


def _exchange(user: str, assistant: str) -> Conversation:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def asr_examples(file: Path, seed: int) -> Iterator[Conversation]:
    """Instruction + units -> transcript; the instruction is drawn by `seed`."""
    rng = random.Random(f"{seed}-asr")
    repeats = Units.read(file.parent).repeats
    for row in jsonl.read(file):
        heard = prompts.flatten(row["units"], repeats)
        yield _exchange(prompts.asr(heard, rng.choice(prompts.ASR_INSTRUCTIONS)), prompts.plain(row["text"]))


def tts_examples(file: Path, seed: int) -> Iterator[Conversation]:
    """Instruction + text -> interleaved text and units."""
    rng = random.Random(f"{seed}-tts")
    for row in jsonl.read(file):
        asked = prompts.tts(row["text"], rng.choice(prompts.TTS_INSTRUCTIONS))
        yield _exchange(asked, prompts.interleave(row["words"], row["units"]))


def sqa_examples(file: Path, seed: int) -> Iterator[Conversation]:
    """Units of the question -> transcript, text answer, interleaved answer."""
    repeats = Units.read(file.parent).repeats
    for row in jsonl.read(file):
        question, answer = row["question"], row["answer"]
        response = prompts.sqa_response(question["text"], answer["text"], answer["words"], answer["units"])
        yield _exchange(prompts.sqa(prompts.flatten(question["units"], repeats)), response)


def text_examples(file: Path, seed: int) -> Iterator[Conversation]:
    """The base model's own text data."""
    for row in jsonl.read(file):
        yield [{**turn, "content": prompts.plain(turn["content"])} for turn in row["messages"]]


@dataclass(frozen=True)
class ExampleSet:
    """How the conversations of a set are made."""

    conversations: Callable[[Path, int], Iterator[Conversation]]
    """From the set's file, NAME.jsonl, and a seed. Raises whatever a file that is not of its form raises."""
    source: str = "units"
    """The step that writes the file: units, corpus, or a kind of step of one's own, which is made of these two."""


SETS = {
    "asr": ExampleSet(asr_examples),
    "tts": ExampleSet(tts_examples),
    "sqa": ExampleSet(sqa_examples),
    TEXT: ExampleSet(text_examples, source="corpus"),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a chain, with all of its settings."""

    name: str
    """That of `train.stages`, with a number behind it where the chain has it again."""
    sets: tuple[str, ...]
    optimization: Optimization
    adapter: Adapter
    replay: Replay


def chain(train: Mapping[str, Any], replay: Mapping[str, Any], common: Mapping[str, Any]) -> list[Stage]:
    """The stages of `train.chain`, in order.

    train: the section `train`: settings of Optimization, `adapter`, `chain`, and `stages`, in each of which settings of
    Optimization, `adapter` and `replay` may stand again, and `sets` (by default the set of the stage's own name).
    replay: the section `replay`. common: settings of Optimization that no stage has of its own (seed, deepspeed).
    Raises ConfigError, one line that names the setting.
    """
    shared = {key: value for key, value in train.items() if key not in ("chain", "stages", "adapter")}
    declared = typed(Mapping[str, Mapping[str, Any]], train["stages"], "train.stages")  # type: ignore[type-abstract]
    names = typed(tuple[str, ...], train["chain"], "train.chain")
    require(bool(names), "train.chain", list(names), "at least one of the stages " + ", ".join(declared))
    made: list[Stage] = []
    for place, name in enumerate(names):
        require(name in declared, "train.chain", name, "out of train.stages: " + ", ".join(declared))
        require(name != ORIGINAL, "train.chain", name, "another name: it is that of the model before the first stage")
        where, own = f"train.stages.{name}", dict(declared[name])
        sets = typed(tuple[str, ...], own.pop("sets", None) or [name], f"{where}.sets")
        for each in sets:
            require(each in SETS, f"{where}.sets", each, "out of " + ", ".join(SETS))
        require(len(set(sets)) == len(sets), f"{where}.sets", list(sets), "a list that names each set once")
        own_adapter, own_replay = own.pop("adapter", None) or {}, own.pop("replay", None) or {}
        sizes = ("batch_size", "batch_tokens") if "batch_size" in own or "batch_tokens" in own else ()
        inherited = {key: value for key, value in shared.items() if key not in sizes}
        own = {key: value for key, value in own.items() if value is not None}
        again = names[:place].count(name)
        made.append(
            Stage(
                name=name + (f"_{again + 1}" if again else ""),
                sets=sets,
                optimization=_with_own(Optimization, {**inherited, **common}, own, where, "train"),
                adapter=_with_own(Adapter, train["adapter"], own_adapter, f"{where}.adapter", "train.adapter"),
                replay=_with_own(Replay, replay, own_replay, f"{where}.replay", "replay"),
            )
        )
        later = made[-1].adapter.lora_in_later_stages
        learning = not place or later == "trained" or made[-1].adapter.in_full
        right = f"trained, for {made[-1].name} has no modules that are trained in full"
        require(bool(learning), "train.adapter.lora_in_later_stages", later, right)
        for setting in ("r", "alpha", "target_modules"):
            first, value = getattr(made[0].adapter, setting), getattr(made[-1].adapter, setting)
            right = f"{first!r}, as in {made[0].name}: one adapter goes on being trained through the chain"
            require(value == first, f"{where}.adapter.{setting}", value, right)
    return made


def _with_own(
    kind: type[Settings], shared: Mapping[str, Any], own: Mapping[str, Any], where: str, section: str
) -> Settings:
    """Shared settings with a stage's own. A message names each setting where it was set."""
    try:
        return typed(kind, {**shared, **own}, where)
    except ConfigError as error:
        named = str(error).removeprefix(f"{where}.")
        if named.split(" ")[0].split("[")[0] in own:
            raise
        raise ConfigError(f"{section}.{named}") from None


def before(stages: Sequence[Stage], place: int) -> list[str]:
    """The sets that the stages before one have trained on, in order, without its own."""
    earlier = dict.fromkeys(each for stage in stages[:place] for each in stage.sets)
    return [each for each in earlier if each not in stages[place].sets]
