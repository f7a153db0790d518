"""Published components as steps: fetched, run on shards, joined, and used to speak and to listen.

Their weights are tiny and random, but for Whisper's, which has learned the utterances by heart.
"""

import json
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from transformers import Wav2Vec2Config, Wav2Vec2Model

from src.data import jsonl
from src.data.settings import ClosedDomain
from src.data.unit_format import Units
from src.evaluate.listener import Listener
from src.grid.step import Step
from src.grid.typed import typed
from src.speech import gather, load, utterances
from src.speech.audio import read_audio, write_audio
from src.speech.published_settings import LISTS, PretrainedSpeech
from src.speech.settings import SynthesizerConfig
from src.speech.speecht5 import SpeechT5Synthesizer
from src.speech.synthesizer import make_synthesizer
from src.steps.corpus import Corpus
from src.steps.pretrained import components
from src.steps.utterances import Utterances, shards_of
from tests.conftest import TINY_CORPUS
from tests.contexts import Recorded
from tests.speech.published_components import LAYER, make_components, spoken_by, train_whisper
from tests.speech.test_encoder import TINY, hidden_states

CLUSTERS = 30
CORPUS = Corpus(config=ClosedDomain(**TINY_CORPUS))
READ = [
    "the lion is red", "what is in rome", "paris lives", "the red tiger is in paris", "rome is what", "lives the lion",
]  # fmt: skip
ASKED = ["where is the lion", "what is red", "is the lion in rome", "who is that"]
ANSWERED = ["The lion is in Paris.", "Rome is red.", "The lion, - yes,\nis in\n\nRome!", "Nobody has learned this."]
PIECES = {"asr": 3, "sqa": 2, "eval_qa": 2, "eval_asr": 2}


class Published:
    """Components, a corpus, and their artifacts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.components, self.corpus = folder, folder / "components", folder / "corpus"
        flat = make_components(self.components, CLUSTERS)
        self.write_corpus()
        known = [(row["text"], read_audio(Path(self.corpus / row["audio"]))) for row in self.rows("asr")[:6]]
        learned = ANSWERED[:3]
        said = spoken_by(self.components, learned)
        train_whisper(self.components / "whisper", [*known, *zip(learned, said, strict=True)])
        nested: dict[str, Any] = {}
        for name, value in flat.items():
            *path, last = name.split(".")[1:]
            place = nested
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
        self.settings = typed(PretrainedSpeech, nested, "speech")
        self.steps = components(self.settings)
        self.artifacts: dict[Step, Path] = {CORPUS: self.corpus}
        self.summaries: dict[str, Any] = {}
        for role, step in self.steps.items():
            out = self.artifacts[step] = folder / "store" / role
            out.mkdir(parents=True)
            self.summaries[role] = step.run({}, out, Recorded(folder / "work" / role))

    def rows(self, name: str) -> list[dict[str, Any]]:
        return list(jsonl.read(self.corpus / f"{name}.jsonl"))

    def write_corpus(self) -> None:
        """Recordings by espeak, one of them shorter than a frame, and one of another text than is written."""
        self.corpus.mkdir()
        speak = make_synthesizer(SynthesizerConfig(), "test")
        rows = []
        for i, text in enumerate(READ):
            audio = self.folder / "recordings" / f"{i}.flac"  # a user's: absolute
            write_audio(audio, speak(text).audio)
            rows.append({"id": f"r-{i}", "text": text, "audio": str(audio)})
        write_audio(self.corpus / "audio" / "short.flac", np.zeros(200, np.float32))
        rows.append({"id": "short", "text": "rome", "audio": "audio/short.flac"})
        rows.append({"id": "other", "text": "somebody said something else", "audio": rows[0]["audio"]})
        jsonl.write(self.corpus / "asr.jsonl", rows)
        jsonl.write(self.corpus / "tts.jsonl", [row for i, row in enumerate(rows) if i != 2])
        pairs = [*zip(ASKED, ANSWERED, strict=True), ("why", "a" * 400), ("what", " "), ("is it", "Rome is red.")]
        jsonl.write(self.corpus / "sqa.jsonl", ({"id": f"s-{i}", "question": q, "answer": a}
                                                for i, (q, a) in enumerate(pairs)))  # fmt: skip
        jsonl.write(self.corpus / "eval_asr.jsonl", rows[:3])
        jsonl.write(self.corpus / "eval_qa.jsonl", (
            {"id": f"q-{i}", "set": "ab"[i % 2], "question": row["text"], "answers": ["x"], "audio": row["audio"]}
            for i, row in enumerate(rows[:5])
        ))  # fmt: skip

    def shards(self, name: str) -> list[Utterances]:
        return shards_of(name, self.settings, CORPUS, self.steps, self.steps["encoder"])

    def whole(self, name: str) -> Utterances:
        """The list `name` in one shard."""
        first = self.shards(name)[0]
        return replace(first, config=replace(first.config, shards=1))

    def utterances(self, step: Utterances, out: Path, work: Any) -> dict[str, Any]:
        out.mkdir(parents=True)
        return step.run(self.artifacts, out, work)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utterances, "CHUNK", PIECES)
        yield


@pytest.fixture(scope="module")
def shards(published: Published) -> dict[str, Path]:
    """Every list, in as many shards as the settings say."""
    made = {}
    for name in LISTS:
        for i, step in enumerate(published.shards(name)):
            made[step.shard_name] = out = published.folder / "shards" / f"{name}-{i}"
            published.utterances(step, out, Recorded(published.folder / "work" / out.name))
    return made


@pytest.fixture(scope="module")
def units(published: Published, shards: dict[str, Path]) -> Path:
    out = published.folder / "units"
    out.mkdir()
    published.summaries["units"] = gather.join_lists(shards, out, Recorded(published.folder / "work" / "gather"))
    return out


def expected_units(published: Published, audio: np.ndarray) -> list[int]:
    """By transformers alone: the model that the checkpoint was made of, one utterance, distances written out."""
    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(**TINY, mask_time_prob=0.0)).eval()
    features = hidden_states(model, audio)[LAYER][0].numpy()
    return cdist(features, np.load(published.components / "kmeans.npy")).argmin(axis=1).tolist()


def test_units_are_those_of_transformers(published: Published, units: Path) -> None:
    found = {row["id"]: row for row in jsonl.read(units / "asr.jsonl")}
    assert list(found) == [*(f"r-{i}" for i in range(6)), "other"]
    for row in published.rows("asr")[:6]:
        audio = read_audio(Path(row["audio"]))
        (own,) = found[row["id"]]["units"]
        assert own == expected_units(published, audio) and len(own) == (len(audio) - 80) // 320
        assert found[row["id"]]["words"] == [row["text"]] == [found[row["id"]]["text"]]
    assert len({unit for row in found.values() for unit in row["units"][0]}) > 10
    assert Units.read(units) == Units(frame_rate=50.0, clusters=CLUSTERS, repeats=True)


def test_words_of_synthesis_have_their_own_units(published: Published, units: Path) -> None:
    """Silence belongs to the word before it, so that nothing is lost."""
    whole = {row["id"]: row["units"][0] for row in jsonl.read(units / "asr.jsonl")}
    rows = list(jsonl.read(units / "tts.jsonl"))
    assert [row["id"] for row in rows] == ["r-0", "r-1", "r-3", "r-4", "r-5"]
    for row in rows:
        assert row["words"] == row["text"].split() and len(row["units"]) == len(row["words"])
        assert all(row["units"]) and list(chain(*row["units"])) == whole[row["id"]]


def test_questions_and_answers_are_spoken(published: Published, units: Path) -> None:
    rows = list(jsonl.read(units / "sqa.jsonl"))
    assert [row["id"] for row in rows] == ["s-0", "s-1", "s-2", "s-6"]
    questions = spoken_by(published.components, [row["question"]["text"] for row in rows])
    answers = spoken_by(published.components, [row["answer"]["text"] for row in rows])
    for row, question, answer in zip(rows, questions, answers, strict=True):
        assert row["question"]["words"] == [row["question"]["text"]]
        assert row["question"]["units"] == [expected_units(published, question)]
        assert list(chain(*row["answer"]["units"])) == expected_units(published, answer)
    assert rows[2]["answer"]["text"] == ANSWERED[2], "as it stands in the response"
    assert rows[2]["answer"]["words"] == ["The", "lion, -", "yes,", "is", "in", "Rome!"]


def test_evaluation_lists(published: Published, units: Path) -> None:
    asked = list(jsonl.read(units / "eval_qa.jsonl"))
    assert [(row["id"], row["set"]) for row in asked] == [(f"q-{i}", "ab"[i % 2]) for i in range(5)]
    whole = {row["text"]: row for row in jsonl.read(units / "asr.jsonl")}
    for row in asked:
        assert row.keys() == {"id", "set", "question"}
        assert row["question"]["units"] == whole[row["question"]["text"]]["units"]
    assert [row["text"] for row in jsonl.read(units / "eval_asr.jsonl")] == READ[:3]
    kept = published.shards("eval_qa")[0].config.keep_audio
    assert kept == 4 and len(list((units / "audio").glob("*.flac"))) == 5
    same = read_audio(units / "audio" / "q-1.flac")
    np.testing.assert_allclose(same, read_audio(Path(published.rows("asr")[1]["audio"])), atol=1e-4)


def test_what_was_dropped_is_counted(published: Published, units: Path) -> None:
    unlike = "what was heard is unlike the transcript"
    assert published.summaries["units"]["data"] == {
        "asr": {"kept": 7, "dropped": {utterances.TOO_SHORT: 1}},
        "tts": {"kept": 5, "dropped": {utterances.TOO_SHORT: 1, unlike: 1}},
        "sqa": {"kept": 4, "dropped": {utterances.SILENT: 1, utterances.UNSPEAKABLE: 1, unlike: 1}},
        "eval_qa": {"kept": 5, "dropped": {}},
        "eval_asr": {"kept": 3, "dropped": {}},
    }
    recorded = [read_audio(Path(row["audio"])) for row in published.rows("asr")[:6]]
    seconds = sum(map(len, [*recorded, recorded[0]])) / 16_000
    assert published.summaries["units"]["hours"]["asr"] == round(seconds / 3600, 4)


def test_another_number_of_shards_makes_no_difference(
    published: Published, shards: dict[str, Path], units: Path, tmp_path: Path
) -> None:
    assert sum(role.startswith("asr") for role in shards) == 2
    step = published.whole("asr")
    published.utterances(step, tmp_path / "asr", Recorded(tmp_path / "work"))
    others = {role: folder for role, folder in shards.items() if not role.startswith("asr")}
    (tmp_path / "units").mkdir()
    gather.join_lists({"asr-000": tmp_path / "asr", **others}, tmp_path / "units", Recorded(tmp_path / "gather"))
    for file in units.rglob("*.*"):
        assert (tmp_path / "units" / file.relative_to(units)).read_bytes() == file.read_bytes(), file.name


def test_a_killed_shard_goes_on_at_its_chunk(
    published: Published, shards: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the files of its third chunk are written; the chunk that is cut off is done again, and no other."""
    step = published.whole("asr")
    whole = tmp_path / "whole"
    published.utterances(step, whole, Recorded(tmp_path / "undisturbed"))

    written: list[Path] = []

    def write(path: Path, rows: Any) -> None:
        jsonl.write(path, rows)
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(utterances, "jsonl", SimpleNamespace(read=jsonl.read, write=write))
    work = Recorded(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        published.utterances(step, tmp_path / "first", work)
    done = {path.name for path in (work.work / "chunks").iterdir()}
    assert done == {"0-3", "3-6", ".1-6-8"} and (work.work / "chunks" / ".1-6-8" / "asr.jsonl").exists()

    written.clear()
    again = Recorded(tmp_path / "killed")
    published.utterances(step, tmp_path / "again", again)
    assert {path.parent.name for path in written} == {".1-6-8"}
    assert again.reports[-1]["done"] == again.reports[-1]["total"] == 8
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["asr.jsonl", "counts.json", "tts.jsonl", "units.json"]
    assert [(tmp_path / "again" / name).read_bytes() for name in names] == [
        (whole / name).read_bytes() for name in names
    ]


def test_recordings_that_cannot_be_decoded_are_dropped(
    published: Published, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FLAC that is cut off, noise, and one without samples; but not a file that is missing."""
    whole = {row["id"]: row for row in jsonl.read(units / "asr.jsonl")}
    rows = published.rows("asr")[:6]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    recorded = Path(rows[0]["audio"]).read_bytes()
    (corpus / "cut.flac").write_bytes(recorded[: len(recorded) // 2])
    (corpus / "noise.flac").write_bytes(b"no audio")
    write_audio(corpus / "empty.flac", np.zeros(0, np.float32))
    for i, name in ((1, "cut"), (3, "noise"), (4, "empty")):
        rows[i]["audio"] = f"{name}.flac"
    step = published.whole("asr")
    monkeypatch.setitem(published.artifacts, CORPUS, corpus)

    jsonl.write(corpus / "asr.jsonl", rows)
    jsonl.write(corpus / "tts.jsonl", rows[:4])
    summary = published.utterances(step, tmp_path / "half", Recorded(tmp_path / "work-half"))
    assert summary["data"] == {
        "asr": {"kept": 3, "dropped": {"unreadable audio": 3}}, "tts": {"kept": 2, "dropped": {"unreadable audio": 2}}
    }  # fmt: skip
    assert list(jsonl.read(tmp_path / "half" / "asr.jsonl")) == [whole[f"r-{i}"] for i in (0, 2, 5)]

    jsonl.write(corpus / "asr.jsonl", rows[:5])
    work = Recorded(tmp_path / "work")
    with pytest.raises(ValueError, match=r"^more than half of the 5 recordings of asr cannot be decoded: empty\.flac "):
        published.utterances(step, tmp_path / "more", work)
    rows[4]["audio"] = rows[0]["audio"]
    jsonl.write(corpus / "asr.jsonl", rows[:5])
    assert published.utterances(step, tmp_path / "mended", work)["data"]["asr"]["kept"] == 3

    rows[4]["audio"] = "none.flac"
    jsonl.write(corpus / "asr.jsonl", rows)
    with pytest.raises(ValueError, match=r"^none\.flac cannot be read: "):
        published.utterances(step, tmp_path / "missing", Recorded(tmp_path / "work-missing"))


def test_questions_that_nobody_has_read_out_are_spoken(
    published: Published, shards: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = published.rows("eval_qa")
    del rows[1]["audio"]
    corpus = tmp_path / "corpus"
    shutil.copytree(published.corpus, corpus)
    jsonl.write(corpus / "eval_qa.jsonl", rows)
    monkeypatch.setitem(published.artifacts, CORPUS, corpus)
    published.utterances(published.whole("eval_qa"), tmp_path / "out", Recorded(tmp_path / "work"))
    before = {row["id"]: row for row in jsonl.read(shards["eval_qa-000"] / "eval_qa.jsonl")}
    after = {row["id"]: row for row in jsonl.read(tmp_path / "out" / "eval_qa.jsonl")}
    spoken = load.synthesizer(published.artifacts[published.steps["synthesizer"]]).speak([rows[1]["question"]])[0]
    assert after.pop("q-1")["question"]["units"] == [expected_units(published, spoken)]
    assert after == {id: row for id, row in before.items() if id != "q-1"}


def test_progress_counts_hours_of_audio(published: Published, tmp_path: Path) -> None:
    work = Recorded(tmp_path / "work")
    summary = published.utterances(published.shards("sqa")[0], tmp_path / "out", work)
    done = [report["done"] for report in work.reports]
    assert done == sorted(done) and done[-1] == 7 and len(set(done)) > 4
    assert work.reports[-1]["hours"] == pytest.approx(summary["hours"], abs=1e-3) and summary["hours"] > 0
    assert work.reports[-1]["hours_per_hour"] > 0


def test_the_vocoder_and_the_recognizer_serve_the_evaluation(published: Published, tmp_path: Path) -> None:
    """Units of an answer to audio, 320 samples each with all repeats, and audio to words."""
    vocoder = load.vocoder(published.artifacts[published.steps["vocoder"]])
    recognizer = load.recognizer(published.artifacts[published.steps["recognizer"]])
    progress: Any = SimpleNamespace(advance=lambda count: None)
    listener = Listener(vocoder, recognizer, progress)
    heard = listener([[3, 3, 3, 7, 7, 99, 1], [], [99]], {0: tmp_path / "kept.flac"})
    assert len(read_audio(tmp_path / "kept.flac")) == 6 * 320, "99 is no unit of the vocoder, the others stay"
    assert heard[1:] == ["", ""]
    audio = read_audio(Path(published.rows("asr")[1]["audio"]))
    assert recognizer([audio]) == [READ[1]]


def test_what_is_wrong_is_one_line(shards: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    counts = {"data": {"sqa": {"kept": 0, "dropped": {"nothing was heard": 3}}}, "samples": 0}
    (empty / "counts.json").write_text(json.dumps(counts))
    (empty / "sqa.jsonl").write_text("")
    Units.read(shards["sqa-000"]).write(empty)
    (tmp_path / "units").mkdir()
    with pytest.raises(ValueError, match=r"no example of sqa is left \(3 x nothing was heard\)"):
        gather.join_lists(shards | {"sqa-000": empty}, tmp_path / "units", Recorded(tmp_path / "gather"))
    Units(50.0, 7, True).write(empty)
    with pytest.raises(ValueError, match="shards hold units of different kinds"):
        gather.join_lists(shards | {"sqa-000": empty}, tmp_path / "units", Recorded(tmp_path / "gather"))


def test_shards_are_stretches_of_the_list(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "list.jsonl", ({"id": i} for i in range(11)))
    for shards in (1, 2, 3, 11, 13):
        parts = [utterances.shard_of(tmp_path / "list.jsonl", i, shards) for i in range(shards)]
        assert [row["id"] for part in parts for row in part] == list(range(11))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_published_voice_is_the_artifacts(published: Published) -> None:
    voice = load.synthesizer(published.artifacts[published.steps["synthesizer"]])
    assert isinstance(voice, SpeechT5Synthesizer)
    assert np.array_equal(voice.speak(["Rome."])[0], spoken_by(published.components, ["Rome."])[0])
