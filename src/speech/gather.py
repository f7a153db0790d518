"""Joins the shards of all lists into one artifact of units."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.unit_format import Units
from src.speech.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from src.grid.context import Context

COUNTS = "counts.json"
"""What a part has kept and dropped, and the samples of its audio."""
FILES = {"asr": ("asr", "tts"), "sqa": ("sqa",), "eval_qa": ("eval_qa",), "eval_asr": ("eval_asr",)}
"""List of the corpus -> the files that are made of it. What is spoken aloud in the second stage are those utterances of
the first whose words could be aligned."""


def join(parts: Sequence[Path], files: Sequence[str], out: Path) -> dict[str, Any]:
    """Write the JSON lines and the audio of all `parts`, in their order, into `out`; the sums of their counts."""
    kept: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {name: Counter() for name in files}
    samples = 0
    for name in files:
        with (out / f"{name}.jsonl").open("wb") as joined:
            for part in parts:
                with (part / f"{name}.jsonl").open("rb") as own:
                    shutil.copyfileobj(own, joined, 2**20)
    for part in parts:
        if (part / "audio").is_dir():
            shutil.copytree(part / "audio", out / "audio", dirs_exist_ok=True)
        counts = json.loads((part / COUNTS).read_text(encoding="utf-8"))
        samples += counts["samples"]
        for name in files:
            kept[name] += counts["data"][name]["kept"]
            dropped[name].update(counts["data"][name]["dropped"])
    data = {name: {"kept": kept[name], "dropped": dict(sorted(dropped[name].items()))} for name in files}
    return {"data": data, "samples": samples}


def join_lists(shards: Mapping[str, Path], out: Path, context: "Context") -> dict[str, Any]:
    """Write asr, tts, sqa, eval_qa, eval_asr .jsonl, as far as there are shards of them, audio/ and units.json.

    shards: artifacts of the shards of each list by name: asr-000, asr-001 .., sqa-000 .., eval_qa-000, eval_asr-000.
    Raises ValueError for shards whose units are not of one kind, and for a list that is left without examples.
    """
    data: dict[str, Any] = {}
    samples: dict[str, int] = {}
    there = {shard.rpartition("-")[0] for shard in shards}
    wanted = {name: files for name, files in FILES.items() if name in there}
    for done, (name, files) in enumerate(wanted.items()):
        context.report(done=done, total=len(wanted))
        own = {int(shard.rpartition("-")[2]): shards[shard] for shard in shards if shard.rpartition("-")[0] == name}
        counts = join([own[number] for number in sorted(own)], files, out)
        data |= counts["data"]
        samples[name] = counts["samples"]
    kinds = {json.dumps(asdict(Units.read(folder))) for folder in shards.values()}
    if len(kinds) > 1:
        raise ValueError(f"the shards hold units of different kinds: {' and '.join(sorted(kinds))}")
    for name, counts in data.items():
        if not counts["kept"]:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in counts["dropped"].items())
            raise ValueError(f"no example of {name} is left ({reasons or 'its list is empty'})")
    Units(**json.loads(kinds.pop())).write(out)
    hours = {name: round(count / SAMPLE_RATE / 3600, 4) for name, count in samples.items()}
    return {"data": data, "hours": hours}
