"""Published data out of small files in each of its layouts."""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from src.data import downloads, draw, jsonl, prompts, published, question_sets, recordings
from src.data.settings import PublishedData
from src.grid.errors import ConfigError
from src.grid.typed import typed
from tests.data import published_files
from tests.data.published_files import (
    COMMIT,
    QUESTIONS,
    encoded,
    magpie_row,
    make_everything,
    make_librispeech,
    make_librispeech_parquet,
    make_magpie,
    make_speech_lines,
    texts,
    tone,
    utterance_id,
)

ROOT = Path(__file__).parents[2]
SPOKEN = [(f"he said it was number {n}", tone(0.3 + n / 20, 150 + 20 * n)) for n in range(8)]
HEARD = [(f"and then there were {n}", tone(0.4, 300 + 20 * n)) for n in range(5)]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return make_everything(tmp_path / "files", SPOKEN, HEARD)


@pytest.fixture
def run(tmp_path: Path, context: Any) -> Callable[[dict[str, Any]], tuple[Path, dict[str, Any]]]:
    made: list[Path] = []

    def run(config: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / f"out-{len(made)}"
        out.mkdir()
        made.append(out)
        return out, published.write(typed(PublishedData, config, "data"), out, context)

    return run


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    return list(jsonl.read(out / f"{name}.jsonl"))


def digest(out: Path) -> dict[str, str]:
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob("*"))
        if file.is_file()
    }


def test_every_list_of_the_contract(config, run, context, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "fetch", None)  # the hub is not asked where there are paths
    out, summary = run(config)
    asr = rows(out, "asr")
    assert [row["id"] for row in asr] == [utterance_id(n) for n in range(8)]
    assert [row["text"] for row in asr] == [text for text, _ in SPOKEN]  # lower case again
    for row, (_, audio) in zip(asr, SPOKEN, strict=True):
        assert Path(row["audio"]).is_absolute() and row["seconds"] == pytest.approx(len(audio) / 16_000)
        np.testing.assert_allclose(recordings.read(row["audio"], out), audio, atol=1e-4)
    assert rows(out, "tts") == asr
    heard = rows(out, "eval_asr")
    assert len(heard) == 4 and {row["text"] for row in heard} < {text for text, _ in HEARD}
    assert all("/test-clean/" in row["audio"] for row in heard)

    sqa, pool = rows(out, "sqa"), rows(out, "pool")
    assert (len(sqa), len(pool)) == (8, 12)
    for row in sqa:
        assert row.keys() == {"id", "question", "answer"}
        number = row["question"].removeprefix("What is the color of stone number ").removesuffix("?")
        assert row["answer"] == f"Stone {number} is grey."
    for row in pool:
        (user, assistant) = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant") and "is grey" in assistant["content"]
    assert len({row["id"] for row in sqa}) == 8
    assert not {row["question"] for row in sqa} & {row["messages"][0]["content"] for row in pool}

    questions = rows(out, "eval_qa")
    assert [row["question"] for row in questions] == [row[0] for asked in QUESTIONS.values() for row in asked]
    assert [row["set"] for row in questions] == [name for name, asked in QUESTIONS.items() for _ in asked]
    assert questions[4]["answers"] == ["Sinclair Lewis", "Lewis", "lewis"]
    for row in questions:
        assert row["audio"] == f"audio/{row['id']}.flac"
        np.testing.assert_allclose(recordings.read(row["audio"], out), tone(0.4), atol=1e-3)
    assert [row["kwargs"] for row in rows(out, "eval_ifeval")] == [[{}]] * 4

    assert summary["data"]["asr"] == {"kept": 8, "dropped": {}}
    assert summary["data"]["eval_asr"] == {"kept": 4, "dropped": {"not drawn": 1}}
    assert summary["data"]["pool"] == {"kept": 12, "dropped": {"not drawn, or the same instruction again": 28}}
    assert summary["data"]["eval_qa/trivia_qa"] == {"kept": 2, "dropped": {}}
    assert summary["hours"]["asr"] == pytest.approx(sum(len(audio) for _, audio in SPOKEN) / 16_000 / 3600, abs=1e-4)
    assert summary["sources"]["speech"].endswith("(mine)")
    json.dumps(summary)
    last = {one["doing"]: one for one in context.reported}
    assert last["headers of the speech"]["done"] == last["headers of the speech"]["total"] > 0


def test_questions_that_nobody_has_read_out_are_kept_as_text(tmp_path, config, run) -> None:
    asked = [(*row, tone(0.4) if n else None) for n, row in enumerate(QUESTIONS["llama_questions"])]
    published_files.make_question_set(tmp_path / "half", "llama_questions", asked)
    config["questions"]["llama_questions"]["path"] = str(tmp_path / "half")
    out, summary = run(config)
    first, second = rows(out, "eval_qa")[:2]
    assert "audio" not in first and second["audio"] == "audio/llama_questions-1.flac"
    assert summary["data"]["eval_qa/llama_questions"] == {"kept": 2, "dropped": {}}


def test_the_same_bytes_again(config, run) -> None:
    first, one = run(config)
    second, other = run(config)
    assert digest(first) == digest(second) and one == other


@pytest.mark.parametrize("make", [make_librispeech, make_librispeech_parquet, make_speech_lines])
@pytest.mark.parametrize("archive", [True, False])
def test_layouts_of_speech_are_alike(tmp_path, config, run, make, archive) -> None:
    """The same utterances, whatever they are stored in, and either way of writing a split's name."""
    folder = tmp_path / "other"
    for split, spoken in (("train-clean-100", SPOKEN), ("test-clean", HEARD)):
        make(folder, split if make is make_librispeech else split.replace("-", "."), spoken)
    config["speech"] |= {
        "path": str(folder),
        "splits": ["train-clean-100" if archive else "train.clean.100"],
        "evaluation_split": "test-clean" if archive else "test.clean",
        "examples": 5,
    }
    out, _ = run(config)
    found = {row["id"]: row for row in rows(out, "asr")}
    assert set(found) == draw.draw(map(utterance_id, range(8)), 5, 0, "speech")
    for number, (text, audio) in enumerate(SPOKEN):
        if row := found.get(utterance_id(number)):
            assert row["text"] == text and row["seconds"] == pytest.approx(len(audio) / 16_000, abs=1e-4)
            np.testing.assert_allclose(recordings.read(row["audio"], out), audio, atol=1e-4)
    assert list(found) == sorted(found)


def test_draws_do_not_depend_on_the_order(tmp_path, config, run) -> None:
    config["speech"] |= {"examples": 5, "tts_examples": 3}
    out, summary = run(config)
    tts, asr = ([row["id"] for row in rows(out, name)] for name in ("tts", "asr"))
    assert len(tts) == 3 and set(tts) < set(asr)
    assert summary["data"]["asr"]["dropped"] == {"not drawn": 3} == {"not drawn": 8 - len(asr)}
    assert summary["data"]["tts"]["dropped"] == {"not drawn": 2}
    turned = deepcopy(config)
    turned["text"]["path"] = str(make_magpie(tmp_path / "turned", texts(40)[::-1], files=3))
    other, _ = run(turned)
    for name in ("sqa", "pool"):
        assert (out / f"{name}.jsonl").read_bytes() == (other / f"{name}.jsonl").read_bytes()
    for seed in range(1, 5):  # a larger draw holds the smaller one; another seed draws others
        assert draw.draw(map(str, range(99)), 5, seed, "x") < draw.draw(map(str, range(99)), 9, seed, "x")
    assert len({frozenset(draw.draw(map(str, range(99)), 5, seed, "x")) for seed in range(9)}) == 9


def test_speech_that_cannot_be_used_is_counted(config, run) -> None:
    home = Path(config["speech"]["path"]) / "LibriSpeech" / "train-clean-100"
    (first, second, third, *_) = sorted(home.glob("*/*/*.flac"))
    first.write_bytes(b"no audio")
    second.unlink()
    transcript = third.parent / "100-1240.trans.txt"
    transcript.write_text(transcript.read_text().replace("100-1240-0002 ", "100-1240-0009 "))
    soundfile.write(home / "102" / "1242" / "102-1242-0000.flac", np.zeros(0), 16_000)
    config["speech"] |= {"max_seconds": 0.52}
    with pytest.raises(ValueError, match=r"data\.speech\.path: 5 of 9 utterances cannot be used, the first "):
        run(config)
    transcript.write_text(transcript.read_text().replace("100-1240-0009 ", "100-1240-0002 "))
    _, summary = run(config)
    assert summary["data"]["asr"] == {
        "kept": 3,
        "dropped": {"longer than 0.52 s": 2, "no audio": 1, "unreadable audio": 2},
    }


def test_lines_that_lack_something(tmp_path, config, run) -> None:
    make_speech_lines(tmp_path / "mine", "train", SPOKEN)
    make_speech_lines(tmp_path / "mine", "test", HEARD)
    soundfile.write(tmp_path / "mine" / "empty.wav", np.zeros(0), 16_000)
    with (tmp_path / "mine" / "train.jsonl").open("a") as lines:
        for row in (
            {"audio": "empty.wav", "text": "nothing is heard"},
            {"audio": f"clips/{utterance_id(0)}.wav", "text": " "},
            {"audio": f"clips/{utterance_id(1)}.wav", "text": "once more", "id": utterance_id(1)},
            {"audio": {"path": str(tmp_path / "mine" / "clips" / f"{utterance_id(2)}.wav")}, "text": "No  name\n"},
        ):
            lines.write(json.dumps(row) + "\n")
    config["speech"] |= {"path": str(tmp_path / "mine"), "splits": ["train"], "evaluation_split": "test"}
    out, summary = run(config)
    dropped = {"empty audio": 1, "no transcript": 1, "the same id again": 1}
    assert summary["data"]["asr"] == {"kept": 9, "dropped": dropped}
    last = rows(out, "asr")[-1]
    assert (last["id"], last["text"]) == ("train-12", "no name")
    np.testing.assert_allclose(recordings.read(last["audio"], out), SPOKEN[2][1], atol=1e-4)


def test_a_chapter_without_its_transcripts_is_counted(tmp_path, config, run) -> None:
    root = Path(config["speech"]["path"])
    (first, *_) = sorted(root.rglob("train-clean-100/**/*.trans.txt"))
    lost = len(list(first.parent.glob("*.flac")))
    first.unlink()
    _, summary = run(config)
    assert summary["data"]["asr"]["dropped"] == {"no transcript": lost} and lost == 3


def test_what_magpie_has_that_is_not_spoken(tmp_path, config, run) -> None:
    long = " ".join(["word"] * 30)
    extra = [
        magpie_row("What is two and two?", "Four.", "Math"),
        magpie_row(f"Say {long}", "No."),
        magpie_row("What is a long answer?", long),
        magpie_row("How do I print in Python?", "Use `print(x)` for it."),
        magpie_row("Where do I read more?", "At www.example.com."),
        magpie_row("как дела?", "хорошо"),
        magpie_row("which planet has RINGS", "Saturn."),  # a question of the evaluation
        magpie_row("Write about the number 2, without any commas!", "Two."),  # a prompt of IFEval
        magpie_row("Nothing?", "  "),
        magpie_row("what is the color of stone number 3", "It is grey as well."),  # asked before
        magpie_row("Tell me everything.", " ".join(["word"] * 70)),
    ]
    config["text"] |= {"path": str(make_magpie(tmp_path / "more", texts(9) + extra)), "sqa_examples": 99}
    config["text"] |= {"pool_texts": 99}
    out, summary = run(config)
    assert {row["question"].lower().rstrip("?") for row in rows(out, "sqa")} == {
        f"what is the color of stone number {n}" for n in range(9)
    }
    assert summary["data"]["sqa"] == {
        "kept": 9,
        "dropped": {
            "answer longer than 20 words": 2,
            "asked in the evaluation": 2,
            "category Math": 1,
            "empty": 1,
            "not drawn, or the same instruction again": 1,
            "not to be read aloud (code, markup, links, other scripts)": 3,
            "question longer than 20 words": 1,
        },
    }
    pool = {row["messages"][0]["content"] for row in rows(out, "pool")}
    assert pool == {row["input"] for row in (*extra[:6],)}  # what could not be spoken, and math, but not what is held
    assert summary["data"]["pool"] == {
        "kept": 6,
        "dropped": {
            "asked in the evaluation": 2,
            "empty": 1,
            "longer than 60 words": 1,
            "not drawn, or the same instruction again": 10,
        },
    }


def test_a_question_is_one_line_and_an_answer_keeps_its_own(tmp_path, config, run) -> None:
    """A blank line in the question would end the transcript in the response."""
    replayed = "Say:\n\nnothing of this kind at all"
    rows_ = [magpie_row("\n Name:\n\n two  colors. \n", " Red,\n\nand blue. \n"), magpie_row(replayed, "No.")]
    config["text"] |= {"path": str(make_magpie(tmp_path / "more", rows_ + texts(9))), "sqa_examples": 9}
    config["text"] |= {"max_input_words": 3}
    out, _ = run(config)
    (row,) = rows(out, "sqa")
    assert (row["question"], row["answer"]) == ("Name: two colors.", "Red,\n\nand blue.")
    parsed = prompts.parse_sqa(prompts.sqa_response(row["question"], row["answer"], ["Red, and", "blue."], [[1], [3]]))
    assert (parsed.transcript, parsed.text, parsed.well_formed) == ("Name: two colors.", "Red, and blue.", True)
    assert replayed in [row["messages"][0]["content"] for row in rows(out, "pool")], "nobody speaks it"


def test_magpie_as_json_lines_by_its_later_names(tmp_path, config, run) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [{"instruction": row["input"], "response": row["output"], "task_category": None} for row in texts(40)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected, _ = run(config)
    config["text"]["path"] = str(file)
    out, _ = run(config)
    for name in ("sqa", "pool"):
        assert (out / f"{name}.jsonl").read_bytes() == (expected / f"{name}.jsonl").read_bytes()


def test_part_of_the_evaluation(config, run) -> None:
    config["most_questions"] = 1
    config["ifeval"]["most"] = 3
    out, summary = run(config)
    assert [row["set"] for row in rows(out, "eval_qa")] == list(QUESTIONS)
    assert len(list((out / "audio").iterdir())) == 3 and len(rows(out, "eval_ifeval")) == 3
    assert summary["data"]["eval_qa/web_questions"] == {"kept": 1, "dropped": {"not drawn": 1}}
    assert summary["data"]["eval_ifeval"] == {"kept": 3, "dropped": {"not drawn": 1}}


def parquet(folder: Path, **columns: Any) -> Path:
    import pyarrow
    import pyarrow.parquet

    (folder / "train-clean-100").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "train-clean-100" / "0.parquet")
    return folder


def broken(kind: str, folder: Path, config: dict[str, Any]) -> None:
    """Put one fault into the files or the settings."""
    speech, text = config["speech"], config["text"]
    home = folder / "files" / "LibriSpeech" / "train-clean-100"
    audio = [{"bytes": encoded(tone()), "path": "x.flac"}]
    if kind == "no folder":
        speech["path"] = str(folder / "none")
    elif kind == "no split":
        speech["splits"] = ["train-other-500"]
    elif kind == "a split":
        speech["path"] = str(home)
    elif kind == "another split":
        speech["path"], speech["splits"] = str(home), ["train.other.500"]
    elif kind == "empty folder":
        (folder / "empty").mkdir()
        speech["path"] = str(folder / "empty")
    elif kind == "no transcripts":
        for file in home.glob("*/*/*.trans.txt"):
            file.unlink()
    elif kind == "null audio":
        (folder / "train-clean-100.jsonl").write_text('{"audio": null, "text": "a"}\n{"audio": {}, "text": "b"}\n')
        (folder / "test-clean.jsonl").write_text("")
        speech["path"] = str(folder)
    elif kind == "all spoken":
        text["sqa_examples"] = 5000
    elif kind == "no flac":
        for file in home.glob("*/*/*.flac"):
            file.unlink()
    elif kind == "no column":
        speech["path"] = str(parquet(folder / "p", audio=audio, sentence=["a"]))
    elif kind == "no bytes":
        speech["path"] = str(parquet(folder / "p", audio=["x.flac"], text=["a"]))
    elif kind == "too long":
        speech["min_seconds"] = 9.0
    elif kind == "no texts":
        text["path"] = str(folder / "files")
    elif kind == "no category":
        (folder / "t.jsonl").write_text(json.dumps({"input": "a", "output": "b"}) + "\n")
        text["path"] = str(folder / "t.jsonl")
    elif kind == "no output":
        (folder / "t.jsonl").write_text(json.dumps({"input": "a", "task_category": "b"}) + "\n")
        text["path"] = str(folder / "t.jsonl")
    elif kind == "nothing left":
        text["max_output_words"] = 1
    elif kind == "no questions":
        config["questions"]["trivia_qa"]["path"] = str(folder)
    elif kind == "bad prompt":
        (folder / "i.jsonl").write_text(json.dumps({"key": 1, "prompt": "a"}) + "\n")
        config["ifeval"]["path"] = str(folder / "i.jsonl")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no folder", r"data\.speech\.path is '.*none', and there is no such file or folder"),
        ("no split", r"data\.speech\.path: .* does not have the split train-other-500: neither .*; the splits that it "
                     r"has are ifeval, test-clean, train-clean-100$"),
        ("a split", r"data\.speech\.path: .*; it is a split itself.* is asked for: .*files/LibriSpeech$"),
        ("another split", r"data\.speech\.path: .*; it is a split itself.* is asked for: .*files/LibriSpeech$"),
        ("empty folder", r"data\.speech\.path: .*empty does not have the split train-clean-100: .*; it has no split"),
        ("no transcripts", r"data\.speech\.path: .*train-clean-100 there are \.flac files, but no \.trans\.txt beside"),
        ("null audio", r"data\.speech\.path: 2 of 2 utterances cannot be used, the first being train-clean-100-1, no"),
        ("all spoken", r"data\.text\.path: of the 40 rows of .*, none is left for pool \(sqa takes 40: lower data\.text"
                       r"\.sqa_examples=5000\)"),
        ("no flac", r"data\.speech\.path: 8 of 8 utterances cannot be used, the first being 100-1240-0000, no audio"),
        ("no column", r"data\.speech\.path: .*0\.parquet: column 'text' is missing; there are audio, sentence"),
        ("no bytes", r"data\.speech\.path: .*0\.parquet: column 'audio' is string; it must hold the encoded bytes"),
        ("too long", r"data\.speech\.path: no utterance of train-clean-100 is left \(shorter than 9 s: 8\)"),
        ("no texts", r"data\.text\.path: .*ifeval\.jsonl, line 1: column 'input' or 'output' is missing"),
        ("no category", r"data\.text\.path: .*t\.jsonl, line 1: column 'task_category' is missing; there are input, "
                        r"output, or set data\.text\.excluded_categories=\[\]"),
        ("no output", r"data\.text\.path: .*t\.jsonl, line 1: column 'input' or 'output' is missing; there are input"),
        ("nothing left", r"data\.text\.path: of the 40 rows of .*, none is left for sqa \(answer longer than 1 words"),
        ("no questions", r"data\.questions\.trivia_qa: .* is no question set"),
        ("bad prompt", r"data\.ifeval\.path: .*i\.jsonl:1: has no instruction_id_list and no kwargs"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_that_names_the_setting(tmp_path, config, run, kind, message) -> None:
    broken(kind, tmp_path, config)
    with pytest.raises(ValueError, match=f"^{message}") as error:
        run(config)
    assert "\n" not in str(error.value)


def test_waves_beside_transcripts(config, run) -> None:
    expected, _ = run(config)
    home = Path(config["speech"]["path"]) / "LibriSpeech" / "train-clean-100"
    for file in home.glob("*/*/*.flac"):
        file.rename(file.with_suffix(".wav"))
    out, summary = run(config)
    assert summary["data"]["asr"] == {"kept": 8, "dropped": {}}
    for one, other in zip(rows(out, "asr"), rows(expected, "asr"), strict=True):
        assert one == other | {"audio": other["audio"].replace(".flac", ".wav")}
        recordings.read(one["audio"], out)
    first = sorted(home.glob("*/*/*.wav"))[0]
    first.with_suffix(".flac").write_bytes(first.read_bytes())
    assert rows(run(config)[0], "asr")[0]["audio"].endswith(".flac")


def test_want_of_nltks_data_is_told_before_anything_long(tmp_path, config, run, monkeypatch) -> None:
    """By the prompts that were drawn, and no others."""
    file = tmp_path / "counted.jsonl"
    counted = {"key": 7, "prompt": "Write two.", "instruction_id_list": ["length_constraints:number_sentences"],
               "kwargs": [{"relation": "at least", "num_sentences": 2}]}  # fmt: skip
    file.write_text(Path(config["ifeval"]["path"]).read_text() + json.dumps(counted) + "\n")
    config["ifeval"]["path"] = str(file)
    run(config | {"ifeval": config["ifeval"] | {"most": 1}})
    monkeypatch.setattr("nltk.data.path", [])
    monkeypatch.setattr(question_sets, "load", None)
    monkeypatch.setattr(published.librispeech, "parts", None)
    with pytest.raises(FileNotFoundError, match=r"^nltk's punkt_tab was not found.*key 7 is the first.*punkt_tab$"):
        run(config)


def compose(name: str, *overrides: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = compose("config", overrides=[f"data={name}", *overrides]).data
    made: Any = OmegaConf.to_container(data, resolve=True)
    return made


def test_the_settings_that_ship() -> None:
    paper, single = (typed(PublishedData, compose(name), "data") for name in ("paper", "single_gpu"))
    found = downloads.downloads(paper)
    assert list(found) == ["speech", "text", *(f"questions.{name}" for name in QUESTIONS), "ifeval"]
    assert found["speech"].patterns == (
        "all/train.clean.100/*.parquet", "all/train.clean.360/*.parquet", "all/train.other.500/*.parquet",
        "all/test.clean/*.parquet",
    )  # fmt: skip
    size = {name: sum(one.gigabytes for one in downloads.downloads(data).values()) for name, data in
            (("paper", paper), ("single", single))}  # fmt: skip
    assert 60 < size["paper"] < 90 and 15 < size["single"] < 20
    speech, ifeval = replace(paper.speech, path="/somewhere"), replace(paper.ifeval, path="/somewhere")
    left = downloads.downloads(replace(paper, speech=speech, ifeval=ifeval))
    assert list(left) == ["text", *(f"questions.{name}" for name in QUESTIONS)]


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("speech", {"revision": "main"}, r"data\.speech\.revision is 'main'; it must be a commit of 40 hex digits"),
        ("text", {"revision": COMMIT[:8]}, r"data\.text\.revision is "),
        ("speech", {"splits": []}, r"data\.speech\.splits is \[\]; it must be at least one"),
        ("speech", {"evaluation_split": "train-clean-100"}, r"data\.speech\.evaluation_split is 'train"),
        ("speech", {"examples": 0}, r"data\.speech\.examples is 0; it must be 1 or more"),
        ("speech", {"max_seconds": 0.2}, r"data\.speech\.max_seconds is 0\.2; it must be above min_seconds=0\.5"),
        ("text", {"sqa_examples": 0}, r"data\.text\.sqa_examples is 0"),
        ("questions", {"mine": {"path": "x", "question": ""}}, r"data\.questions\.mine\.question is ''; it must be"),
        ("ifeval", {"most": -1}, r"data\.ifeval\.most is -1"),
    ],
)
def test_settings_are_checked(section: str, change: dict[str, Any], message: str) -> None:
    config = compose("paper")
    config[section] |= change
    with pytest.raises(ConfigError, match=f"^{message}"):
        typed(PublishedData, config, "data")


def test_everything_from_the_cache_of_the_hub(tmp_path, config, run, monkeypatch) -> None:
    """As on a node without a network: the files lie in the hub's cache, put there under the pinned commits."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    downloads.local.cache_clear()

    def snapshot(repository: str) -> Path:
        return cache / f"datasets--{repository.replace('/', '--')}" / "snapshots" / COMMIT

    expected, _ = run(config)
    for source in (config["speech"], config["text"], config["ifeval"], *config["questions"].values()):
        if isinstance(source, dict):
            source |= {"path": None, "revision": COMMIT}
    with pytest.raises(ValueError, match=r"^google/IFEval is .* hub's cache.* by data\.ifeval\.path"):
        run(config)
    speech = snapshot("openslr/librispeech_asr")
    make_librispeech_parquet(speech, "train.clean.100", SPOKEN)
    make_librispeech_parquet(speech, "test.clean", HEARD)
    make_magpie(snapshot("Magpie-Align/Llama-3-Magpie-Air-3M-v0.1"), texts(40))
    for name, rows_ in QUESTIONS.items():
        folder = snapshot(published_files.SETS[name].hub or "")
        published_files.make_question_set(folder, name, [(*row, tone(0.4)) for row in rows_])
    published_files.make_ifeval(snapshot("google/IFEval") / "ifeval_input_data.jsonl")
    out, summary = run(config)
    for name in ("sqa", "pool", "eval_qa", "eval_ifeval"):
        assert (out / f"{name}.jsonl").read_bytes() == (expected / f"{name}.jsonl").read_bytes()
    row = rows(out, "asr")[6]
    assert row["audio"] == f"hf://datasets/openslr/librispeech_asr@{COMMIT}/all/train.clean.100/0001.parquet#2"
    np.testing.assert_allclose(recordings.read(row["audio"], out), SPOKEN[6][1], atol=1e-4)
    assert summary["sources"]["speech"] == f"openslr/librispeech_asr at {COMMIT}"
    assert str(tmp_path) not in "".join(file.read_text() for file in out.glob("*.jsonl"))


def test_overrides_name_the_whole_configuration(config) -> None:
    """What an end-to-end test puts on its command line is this very configuration."""
    assert compose("paper", *published_files.overrides(config)) == config
