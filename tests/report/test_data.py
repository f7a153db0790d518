"""What was kept and dropped, as the page shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from src.data import corpus
from src.data.settings import ClosedDomain
from src.grid.plan import Entry, Plan
from src.report import data
from tests.conftest import TINY_CORPUS
from tests.report.fakegrid import EVIL, Fake, FakeGrid
from tests.report.test_page import page_of

pytestmark = pytest.mark.usefixtures("undrawn")

KEPT: dict[str, dict[str, Any]] = {
    "corpus": {
        "data": {
            "asr": {"kept": 28_000, "dropped": {"unreadable": 2, "longer than 30 s": 1_537, "never": 0}},
            "tts": {"kept": 28_000, "dropped": {}},
        },
        "hours": {"asr": 99.44},
    },
    "train-asr": {"data": {"asr": {"kept": 27_990, "dropped": {f"{EVIL} & more": 10}}}},
}


def collected(fake: FakeGrid) -> list[dict[str, Any]]:
    plan = fake.plan()
    done = {name: entry.step for name, entry in plan.entries.items() if fake.store.lookup(entry.step)}
    return data.collect(plan, {name: fake.store.manifest(step) for name, step in done.items()})


def test_counts_of_every_step(fake: FakeGrid) -> None:
    fake.data = KEPT
    fake.add(["original", "none"])
    assert collected(fake) == [
        {"step": "corpus", "list": "asr", "kept": 28_000, "dropped": 1_539, "hours": 99.44, "share": None,
         "reasons": [("longer than 30 s", 1_537), ("unreadable", 2)]},
        {"step": "corpus", "list": "tts", "kept": 28_000, "dropped": 0, "hours": None, "share": None,
         "reasons": []},
        {"step": "train-asr", "list": "asr", "kept": 27_990, "dropped": 10, "hours": None, "share": None,
         "reasons": [(f"{EVIL} & more", 10)]},
    ]  # fmt: skip


def test_shards_are_left_to_the_step_that_gathers_them() -> None:
    shards = {f"shard-{n}": Fake(of="utterances", named=f"units-asr-{n}") for n in range(2)}
    gather = Fake(of="gather", named="units", shards=shards)
    entries = {step.name: Entry(step, ("none",), True, 1.0, 1.0) for step in (*shards.values(), gather)}
    manifests = {name: {"summary": {"data": {"asr": {"kept": 5, "dropped": {}}}}} for name in entries}
    assert [line["step"] for line in data.collect(Plan((), entries), manifests)] == ["units"]


def test_seeds_are_one_line_where_they_kept_the_same(fake: FakeGrid) -> None:
    fake.data = {"train-asr": {"data": {"asr": {"kept": 5, "dropped": {}, "share_of_loss": 0.5}}}}
    fake.add(["none"], seeds=[0])
    fake.data = {"train-asr": {"data": {"asr": {"kept": 5, "dropped": {}, "share_of_loss": 0.25}}}}
    fake.add(["none"], seeds=[1])
    assert [(line["step"], line["share"]) for line in collected(fake)] == [("train-asr", 0.375)]
    fake.data = {"train-asr": {"data": {"asr": {"kept": 4, "dropped": {"too long": 1}}}}}
    fake.add(["none"], seeds=[2])
    lines = collected(fake)
    assert [line["kept"] for line in lines] == [5, 5, 4]
    assert len({line["step"] for line in lines}) == 3 and all(line["step"].startswith("train-asr-") for line in lines)


def test_the_page_has_a_section_before_the_plan(fake: FakeGrid) -> None:
    fake.data = KEPT
    page = page_of(fake.add(["none", "replay"]))
    assert ["corpus", "asr", "28,000", "99.4", "1,539", "longer than 30 s: 1,537; unreadable: 2"] in page.rows
    assert ["train-asr", "asr", "27,990", "", "10", f"{EVIL} & more: 10"] in page.rows
    html = (fake.grid / "index.html").read_text()
    assert EVIL not in html
    sections = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert sections[-3:] == ["data", "plan", "settings"]
    assert 'href="#data"' in html


def test_without_counts_there_is_no_section_and_without_audio_no_hours(fake: FakeGrid) -> None:
    page_of(fake.add(["none"]))
    html = (fake.grid / "index.html").read_text()
    assert 'id="data"' not in html and 'href="#data"' not in html
    fake.data = {"train-sqa-replay": {"data": {"pool": {"kept": 1, "dropped": {}}}}}
    page = page_of(fake.add(["replay"]))
    assert ["Step", "List", "Kept", "Dropped", "Why"] in page.rows
    assert ["train-sqa-replay", "pool", "1", "0", ""] in page.rows
    fake.data = {"train-sqa-replay": {"data": {"pool": {"kept": 1, "dropped": {}, "share_of_loss": 0.125}}}}
    page = page_of(fake.add(["replay"], seeds=[1]))
    assert ["Step", "List", "Kept", "Of the loss", "Dropped", "Why"] in page.rows
    assert ["train-sqa-replay", "pool", "1", "12.5 %", "0", ""] in page.rows


def test_the_laptop_counts_its_lists(tmp_path: Path) -> None:
    summary = corpus.write(ClosedDomain(**TINY_CORPUS), tmp_path)
    counted = summary["data"]["eval_asr"]
    lines = (tmp_path / "eval_asr.jsonl").read_text().splitlines()
    assert counted["kept"] == len(lines)
    assert counted["kept"] + counted["dropped"]["spoken in training"] == TINY_CORPUS["evaluation_sentences"]
    json.dumps(summary)
