"""Small files in the layout of the data that the paper's authors have published, and what is trained on."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from src.data import authors, jsonl, prompts, published
from src.data.settings import PublishedData, ReadySource, ReadyUnits
from src.data.unit_format import Units
from src.grid.errors import ConfigError
from src.grid.execute import execute
from src.grid.step import Step, closure
from src.grid.store import Store
from src.grid.typed import typed
from src.model.checkpoint import Checkpoint
from src.recipe import compose
from src.stages import SETS
from src.steps.train import Train
from src.train.examples import Stored
from tests.data.published_files import make_everything, overrides, tone
from tests.model.test_text_part import vision_model
from tests.train.runner import forkserver

CLUSTERS = 30
SAID = ["HE HOPED THERE WOULD BE STEW", "AND THEN", "YES"]
ASKED = ["What is red?", "Who lives there?"]


def tokens(units: list[int]) -> str:
    return "".join(f"<|{unit}|>" for unit in units)


def interleaved(text: str) -> str:
    return " ".join(word + tokens([n, n + 1, n + 1]) for n, word in enumerate(text.split()))


def speech_row(text: str, **other: Any) -> dict[str, Any]:
    return {"instruction": "Please repeat the following words: ", "discrete_unit": [len(text) % CLUSTERS, 7, 7],
            "transcription": text, "interleaf": interleaved(text), "speaker_id": 4, **other}  # fmt: skip


def magpie_row(text: str, category: str = "Information seeking", **other: Any) -> dict[str, Any]:
    """A row with the audio, which nobody reads."""
    sound = {"bytes": b"no audio", "path": None}
    answer = f"It is\n\n{text.lower()}"
    return {"input": text, "output": answer, "task_category": category, "input_unit": [1, 2, 2],
            "input_pseudo": text.lower(), "output_pseudo": answer, "output_7306_interleaf": interleaved(answer),
            "input_speech": sound, "output_speech": sound, "output_speech_cmu-arctic-xvectors_7306": sound,
            **other}  # fmt: skip


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def publish(folder: Path) -> ReadyUnits:
    save(folder / "ls960" / "data" / "train-00000-of-00002.parquet", [speech_row(SAID[0]), speech_row(SAID[1])])
    save(folder / "ls960" / "data" / "train-00001-of-00002.parquet", [speech_row(SAID[2])])
    for rank, chunk, rows in (
        (1, 2, [magpie_row("chunk 2 of rank 1")]),
        (0, 10, [magpie_row("chunk 10"), magpie_row("1 + 1", "Math")]),
        (0, 9, [magpie_row(text) for text in ASKED]),
    ):
        save(folder / "magpie" / f"Magpie_rank{rank}_chunk{chunk}_interleaves" / "data" / "train-0.parquet", rows)
    return ReadyUnits(
        speech=ReadySource(path=str(folder / "ls960")), questions=ReadySource(path=str(folder / "magpie"))
    )


def written(ready: ReadyUnits, out: Path, context: Any) -> dict[str, Any]:
    out.mkdir()
    summary = authors.write(ready, ["Math"], CLUSTERS, out, context)
    data: dict[str, Any] = summary["data"]
    return data


def test_what_is_trained_on_is_what_their_code_renders(tmp_path: Path, context: Any) -> None:
    """The user's turns and the assistant's are built here anew, as the column names say."""
    data = written(publish(tmp_path), tmp_path / "out", context)
    assert data["asr"] == data["tts"] == {"kept": 3, "dropped": {}}
    assert data["sqa"] == {"kept": 4, "dropped": {"task_category Math": 1}}
    assert Units.read(tmp_path / "out") == Units(50.0, CLUSTERS, repeats=True)

    def turns(name: str) -> list[tuple[str, str]]:
        talks = SETS[name].conversations(tmp_path / "out" / f"{name}.jsonl", 0)
        return [(user["content"], assistant["content"]) for user, assistant in talks]

    for (user, assistant), text in zip(turns("asr"), SAID, strict=True):
        instruction, _, units = user.rpartition(" ")
        assert instruction in prompts.ASR_INSTRUCTIONS
        assert (units, assistant) == (tokens([len(text) % CLUSTERS, 7, 7]), text)
    for (user, assistant), text in zip(turns("tts"), SAID, strict=True):
        assert user.removesuffix(f" {text}") in prompts.TTS_INSTRUCTIONS and assistant == interleaved(text)
    asked = [magpie_row(text) for text in [*ASKED, "chunk 10", "chunk 2 of rank 1"]]
    for (user, assistant), row in zip(turns("sqa"), asked, strict=True):
        assert user == "<|1|><|2|><|2|>"
        assert assistant == "\n\n".join((row["input_pseudo"], row["output_pseudo"], row["output_7306_interleaf"]))


@pytest.mark.parametrize(
    ("text", "words", "units"),
    [
        ("he<|1|><|2|>was <|3|>", ["he", "was"], [[1, 2], [3]]),  # no space behind units, one before them
        ("<|4|> he was<|1|>", ["", "he was"], [[4], [1]]),  # silence first, two words on one run
        ("he<|1|> <|2|> was.", ["he", "was."], [[1, 2], []]),  # a run in two parts, a word that is not spoken
    ],
)
def test_other_ways_to_interleave(tmp_path: Path, context: Any, text: str, words: list[str], units: list[Any]) -> None:
    ready = publish(tmp_path)
    save(tmp_path / "ls960" / "data" / "train-00000-of-00002.parquet", [speech_row("x", interleaf=text)])
    written(ready, tmp_path / "out", context)
    row = next(jsonl.read(tmp_path / "out" / "tts.jsonl"))
    assert (row["words"], row["units"]) == (words, units)


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path, context: Any) -> None:
    ready = publish(tmp_path)
    rows = [*map(speech_row, "abcde"), speech_row("f", discrete_unit=[CLUSTERS]), speech_row("g", discrete_unit=None),
            speech_row("h", interleaf="none"), speech_row("i", transcription=None)]  # fmt: skip
    save(tmp_path / "ls960" / "data" / "train-00000-of-00002.parquet", rows)
    data = written(ready, tmp_path / "out", context)
    far = f"units that are no numbers below {CLUSTERS}"
    assert data["asr"] == {"kept": 7, "dropped": {far: 1, "no text": 1, "no units": 1}}
    assert data["tts"] == {"kept": 8, "dropped": {"no text": 1, "no units": 1}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: save(f / "ls960" / "data" / "train-9.parquet", [{"transcription": "a"}]),
         r"data\.units\.speech\.path: .*train-9\.parquet: column 'discrete_unit' is missing; there are transcription$"),
        (lambda f: save(f / "ls960" / "data" / "train-9.parquet", [speech_row("a", discrete_unit=[99])] * 9),
         r"data\.units\.speech\.path: of 12 rows for asr, 3 can be used \(units that are no numbers below 30: 9\)$"),
        (lambda f: (f / "magpie").rename(f / "elsewhere"), r"data\.units\.questions\.path: .*magpie holds no texts"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, context: Any, spoil: Any, message: str) -> None:
    ready = publish(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=f"^{message}"):
        written(ready, tmp_path / "out", context)


def test_the_corpus_beside_it_has_what_is_asked_and_replayed(tmp_path: Path, context: Any) -> None:
    config = make_everything(tmp_path / "files", [], [(f"so {n}", tone(0.4)) for n in range(5)])
    config["speech"]["splits"] = []
    config["text"]["sqa_examples"] = None
    with pytest.raises(ConfigError, match=r"^data\.speech\.splits is \[\]; it must be at least one split to train on$"):
        typed(PublishedData, config, "data")
    ready = publish(tmp_path)
    config["units"] = {"speech": {"path": ready.speech.path}, "questions": {"path": ready.questions.path}}
    (tmp_path / "out").mkdir()
    summary = published.write(typed(PublishedData, config, "data"), tmp_path / "out", context)
    lists = {file.stem for file in (tmp_path / "out").glob("*.jsonl")}
    assert lists == {"eval_asr", "eval_qa", "eval_ifeval", "pool"}
    assert summary["data"]["pool"]["kept"] == 12 and summary["hours"].keys() == {"eval_asr"}
    ignored: list[tuple[str, Any]] = [("speech.splits", ["a"]), ("speech.examples", 3), ("text.sqa_examples", 3)]
    for name, value in ignored:
        section, _, setting = name.partition(".")
        wrong = {**config, section: {**config[section], setting: value}}
        with pytest.raises(ConfigError, match=rf"^data\.{name} is .* data\.units has the training examples$"):
            typed(PublishedData, wrong, "data")


def test_a_row_of_the_table_is_trained_on_it(tmp_path: Path) -> None:
    ready = publish(tmp_path)
    paths = [f"data.units.speech.path={ready.speech.path}", f"data.units.questions.path={ready.questions.path}"]
    row = compose(["strategy=replay", "profile=paper", "data=authors", *paths])
    steps = list(closure(row.steps))
    (made,) = (step for step in steps if step.kind == "ready")
    for step in steps:
        if step.kind == "examples" and step.label != "examples-text":
            assert step.source is made  # type: ignore[attr-defined]
        if step.kind == "generate" and step.units is not None:  # type: ignore[attr-defined]
            assert step.units.kind == "gather"  # type: ignore[attr-defined]
    spoken = {step.label.removeprefix("utterances-")[:-4] for step in steps if step.kind == "utterances"}
    assert spoken == {"eval_qa", "eval_asr"}
    with pytest.raises(ConfigError, match=r"^data\.units\.speech\.path is None; it must be a folder with a copy"):
        compose(["strategy=replay", "profile=paper", "data=authors"])
    with pytest.raises(ConfigError, match=r"^speech\.quantizer\.centroids is None; it must be those that the units of"):
        other = ["speech=hubert", "speech.vocoder.model=some/of_500"]
        compose(["strategy=replay", "profile=paper", "data=authors", *other, *paths])


SIZES = [
    "train.ranks=1", "train.loss_average=examples", "train.adapter.r=4", "train.adapter.full_last_layers=1",
    "train.lr=0.01", "train.micro_batch_size=2", "deepspeed=zero0", "replay.ratio=0.5", "replay.text_ratio=0.8",
    *(f"train.stages.{stage}.max_length=400" for stage in ("asr", "tts", "sqa")),
    f"speech.quantizer.clusters={CLUSTERS}", "model.architecture=null", "model.text_tokens=null",
]  # fmt: skip


def compute(steps: list[Step], store: Path) -> None:
    """Body of a process."""
    store.mkdir()
    for step in steps:
        execute(step, Store(store))


def test_a_chain_with_replay_is_trained_on_it(tmp_path: Path) -> None:
    """From the published files to three stages."""
    ready = publish(tmp_path)
    vision_model(tmp_path / "llama")
    config = make_everything(tmp_path / "files", [], [(f"so {n}", tone(0.4)) for n in range(5)])
    config["speech"]["splits"], config["text"]["sqa_examples"] = [], None
    paths = [f"data.units.speech.path={ready.speech.path}", f"data.units.questions.path={ready.questions.path}",
             f"model.pretrained={tmp_path / 'llama'}"]  # fmt: skip
    settings = ["strategy=replay", "profile=paper", "data=authors", *overrides(config), *paths, *SIZES]
    row, store = compose(settings), Store(tmp_path / "store")
    last: Any = row.evaluate.inputs["responses"].inputs["model"]
    process = forkserver.Process(target=compute, args=(list(closure([last])), store.root))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    made = {step.label: (store.folder(step), store.manifest(step)["summary"]) for step in closure([last])}

    tokenizer: Any = AutoTokenizer.from_pretrained(made["backbone"][0] / "model")
    stored = Stored(made["examples-tts"][0])
    learned = [[label for label in stored[i].labels if label >= 0] for i in range(len(stored))]
    expected = [tokenizer(interleaved(text) + "<|eot_id|>", add_special_tokens=False)["input_ids"] for text in SAID]
    assert learned == expected
    assert tokenizer.convert_tokens_to_ids("<|1|>") in learned[0]
    trained = {
        "asr": {"asr": 3, "text": 2}, "tts": {"tts": 3, "text": 2, "asr": 2},
        "sqa": {"sqa": 4, "text": 3, "asr": 2, "tts": 2},
    }  # fmt: skip
    for stage, kept in trained.items():
        assert {name: told["kept"] for name, told in made[f"train-{stage}-replay"][1]["data"].items()} == kept
    before = Checkpoint(made["backbone"][0] / "model").tensor("model.embed_tokens.weight")
    after = load_file(made["train-sqa-replay"][0] / "full.safetensors")["model.embed_tokens.weight"]
    moved = (after.float() - before.float()).abs().amax(1)
    units = tokenizer.convert_tokens_to_ids([f"<|{unit}|>" for unit in range(CLUSTERS)])
    assert moved[units[:5]].min() > 1e-3 and torch.isfinite(after).all()
    assert isinstance(last, Train) and last.depth == 2
