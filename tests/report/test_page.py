import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile

from src.report import cells, examples
from src.report.columns import front
from src.report.lines import collapse
from src.report.page import _interval
from src.report.report import write
from tests.report.fakegrid import EVIL, LABELS, FakeGrid

VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Collects what a browser would see of a page, and fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts = 0
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts += 1
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            if {"td", "th"} & set(self.open) and self.rows and self.rows[-1]:
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def sounds(self) -> list[str]:
        return [value for tag, name, value in self.attributes if (tag, name) == ("audio", "src")]


def page_of(fake: FakeGrid) -> Page:
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    return Page((fake.grid / "index.html").read_text(encoding="utf-8"))


def test_the_page_of_a_whole_grid(fake: FakeGrid) -> None:
    page = page_of(fake.add())
    assert ("svg" in {tag for tag, _, _ in page.attributes}) and page.scripts == 1
    for label in LABELS.values():
        assert label in page.text
    table = json.loads((fake.grid / "table.json").read_text())
    replay = next(row for row in page.rows if row[0] == "Replay")
    for place, (direction, papers) in enumerate({"t2t": "66.3", "s2t": "50.3", "s2s": "28.7"}.items(), 1):
        score = table["rows"][7]["scores"][key := f"qa/countries/{direction}"]
        mean, (low, high) = score["mean"], score["interval"]
        spread = f"±{100 * score['standard_error']:.1f}" if 0 < mean < 1 else f"≥{100 * low:.1f}" if mean else "≤"
        marked = cells.letters(table["rows"][7], key)
        own = f"{100 * mean:.1f}{spread}{marked}{100 * low:.1f}–{100 * high:.1f}"
        assert replay[place].split() == [own, papers]
    assert "Replay pool: honest" in page.text
    assert "6 training steps that of 36" in page.text
    assert "resynthesized" in page.text and "3.4" in page.text
    for words in ("Countries stands for LLaMA-Questions", "the paper's own Table 1", "train-sqa-replay-", "torch"):
        assert words in page.text, words


def test_it_refers_to_nothing_outside(fake: FakeGrid) -> None:
    page = page_of(fake.add(["original", "none", "replay"]))
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action", "poster", "data", "srcset"):
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
    html = (fake.grid / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", html)
    namespaces = {value for _, name, value in page.attributes if name.startswith("xmlns")}
    assert set(re.findall(r"https?://[^\"'\s<)]+", html)) <= namespaces
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value)
    assert policy.startswith("default-src 'none'")


@pytest.mark.usefixtures("undrawn")
def test_the_script_is_the_one_that_the_policy_allows(fake: FakeGrid) -> None:
    page_of(fake.add(["none"]))
    html = (fake.grid / "index.html").read_text(encoding="utf-8")
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    import hashlib

    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.replace("&#39;", "'").replace("&#43;", "+")


@pytest.mark.usefixtures("undrawn")
def test_model_output_is_escaped(tmp_path: Path) -> None:
    fake = FakeGrid(tmp_path / "outputs", evil=True).add(["original", "none"])
    page = page_of(fake)
    html = (fake.grid / "index.html").read_text(encoding="utf-8")
    assert page.scripts == 1 and EVIL not in html
    assert EVIL in page.text  # as words


@pytest.mark.usefixtures("undrawn")
def test_tracebacks_and_settings_are_escaped_and_shown(fake: FakeGrid) -> None:
    fake.add(["none"]).add(["replay"], publish=False)
    fake.rows[0].config["data"]["facts"] = "<b>bold</b>"
    failures = fake.grid / "failures"
    failures.mkdir(parents=True)
    (failures / f"{fake.rows[1].evaluate.name}.txt").write_text(f"Traceback:\n  in line 7\nValueError: {EVIL}\n")
    page = page_of(fake)
    assert page.scripts == 1 and "<b>bold</b>" in page.text
    assert f"{fake.rows[1].evaluate.name}: ValueError: {EVIL}" in page.text and "in line 7" in page.text
    assert next(row for row in page.rows if row[0] == "Replay")[1].split() == ["failed", "66.3"]


@pytest.mark.usefixtures("undrawn")
def test_labels_are_escaped_where_they_are_spoken_of(fake: FakeGrid) -> None:
    """In the tooltip of a test, which is an attribute, and in the notes."""
    label = f'None" onmouseover="{EVIL}'
    fake.add(["none", "replay"])
    fake.rows[0] = replace(fake.rows[0], label=label)
    page = page_of(fake)
    assert page.scripts == 1 and EVIL not in (fake.grid / "index.html").read_text(encoding="utf-8")
    titles = [value for tag, name, value in page.attributes if (tag, name) == ("span", "title")]
    assert any(f"beside {label}: p" in title for title in titles)
    assert not any(name == "onmouseover" for _, name, _ in page.attributes)


@pytest.mark.usefixtures("undrawn")
def test_every_score_tells_its_interval_and_a_switch_shows_them_all(fake: FakeGrid) -> None:
    page = page_of(fake.add(["none", "replay"], seeds=(0, 1, 2)))
    told = json.loads((fake.grid / "table.json").read_text())
    keys = [column["key"] for column in front(told)]
    row = next(row for row in page.rows if row[0] == "Replay" and len(row) == 1 + 9 + 3 + 2)
    for key, cell in zip(keys, row[1:], strict=True):
        low, high = told["rows"][1]["scores"][key]["interval"]
        assert f"{100 * max(low, 0):.1f}–{100 * min(high, 1):.1f}" in cell, key  # not beyond what a share can be
    boxes = [value for tag, name, value in page.attributes if (tag, name) == ("input", "id")]
    assert "w-intervals" in boxes
    assert "#w-intervals:checked ~ .scroll .interval" in (fake.grid / "index.html").read_text()


def test_a_word_error_rate_above_one_is_not_cut() -> None:
    assert _interval({"interval": [0.9, 1.31]}, "down") == "90.0–131.0"
    assert _interval({"interval": [-0.2, 1.31]}, "up") == "0.0–100.0"
    assert _interval({"interval": None}, "up") == ""


@pytest.mark.usefixtures("undrawn")
def test_questions_and_answers_can_be_heard(fake: FakeGrid) -> None:
    page = page_of(fake.add(["original", "none", "replay"]))
    sounds = page.sounds()
    assert len(sounds) == 9 * 3  # three questions of three sets: the question and two spoken answers
    for uri in sounds:
        kind, _, data = uri.partition(";base64,")
        assert kind == "data:audio/mpeg"
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 16000 and audio.ndim == 1 and len(audio) >= 1600 and abs(audio).max() > 0.1


def test_examples_of_another_world_are_not_mixed_in(fake: FakeGrid, tmp_path: Path) -> None:
    """Two rows whose corpora ask different questions under one id."""
    fake.add(["none"])
    other = FakeGrid(fake.root, n=21)
    other.add(["replay"])
    corpus = fake.store.folder(other.rows[0].evaluate.inputs["corpus"])
    text = (corpus / "eval_qa.jsonl").read_text().replace("what is the color of", "which color has")
    sources = examples.sources(collapse([*fake.rows, *other.rows], fake.store), fake.store)
    changed = {one["id"]: one for one in map(json.loads, text.splitlines())}
    sources[1].questions.update(changed)
    for question in examples.questions(sources):
        assert [answer.label for answer in question.answers] == [
            "Replay" if question.text.startswith("which") else "No mitigation"
        ]


def test_audio_stays_in_its_budget(fake: FakeGrid) -> None:
    fake.add(["none", "replay"])
    found = examples.sources(collapse(fake.rows, fake.store), fake.store)
    everything = examples.questions(found)

    def size(questions: list[examples.Question]) -> int:
        return sum(len(a.audio or "") for q in questions for a in q.answers) + sum(
            len(q.audio or "") for q in questions
        )

    fewer = examples.questions(found, budget=size(everything) // 2)
    assert 0 < len(fewer) < len(everything) and size(fewer) <= size(everything) // 2
    assert len({question.set for question in fewer}) == 3


@pytest.mark.parametrize(
    ("response", "shown"),
    [
        ("paris<|3|><|9|> rome", "paris‹3 9› rome"),
        ("red" + "".join(f"<|{i}|>" for i in range(9)), "red‹0 1 2 3 … 9 units›"),
        ("red <|1|> <|2|> blue", "red ‹1 2› blue"),
        ("no units", "no units"),
    ],
)
def test_units_are_shortened(response: str, shown: str) -> None:
    assert examples.shorten(response) == shown


@pytest.mark.usefixtures("undrawn")
def test_a_pool_with_the_answers_is_flagged(fake: FakeGrid) -> None:
    from src.report.page import _pools

    (warned,) = _pools(["with_evaluation_facts"])
    assert warned["leaks"] and "WITH THE EVALUATION FACTS" in warned["text"]
    assert not _pools(["honest"])[0]["leaks"]


@pytest.mark.usefixtures("undrawn")
def test_one_seed_of_several_is_heard(fake: FakeGrid) -> None:
    assert "The answers are those of seed 1" in page_of(fake.add(["none"], seeds=(2, 1))).text
