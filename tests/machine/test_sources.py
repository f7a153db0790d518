"""What lies here is looked into, not loaded, and what is wrong is told in the words of the step that reads it."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.doctor import compose
from src.grid.errors import ConfigError
from src.grid.plan import make_plan
from src.grid.row import Row
from src.grid.step import closure
from src.grid.store import Store
from src.machine import hub
from src.machine.finding import Finding
from src.machine.sources import sources
from tests.data import published_files
from tests.data.published_files import make_everything, tone
from tests.model.test_text_part import save_tokenizer, vision_model
from tests.speech.published_components import command_line, make_components, train_whisper

CLUSTERS = 20
SPOKEN = [("the stone is grey", tone(0.6)), ("the stone is red", tone(0.5, 300))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Copies of everything, and the overrides that name them."""
    folder = tmp_path_factory.mktemp("here")
    data = make_everything(folder / "data", SPOKEN, SPOKEN[:1])
    components = make_components(folder / "components", CLUSTERS)
    train_whisper(folder / "components" / "whisper", SPOKEN, steps=1)
    vision_model(folder / "llama")
    save_tokenizer(folder / "llama")
    model = [f"model.pretrained={folder / 'llama'}", "model.architecture=null", "model.text_tokens=null"]
    return folder, ["profile=paper", *published_files.overrides(data), *command_line(components), *model]


@pytest.fixture
def here(files: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """The same, to be broken."""
    folder, overrides = files
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", [each.replace(str(folder), str(tmp_path / "copy")) for each in overrides]


def look(overrides: list[str]) -> tuple[list[Finding], Row]:
    composed, _ = compose(overrides)
    found, _ = hub.downloads(sources(composed.config), make_plan([composed], Store(Path("nowhere"))))
    return found, composed


def test_whole_copies_are_there(files: tuple[Path, list[str]]) -> None:
    found, row = look(files[1])
    assert [each.state for each in found] == ["ok"] * 15
    assert all(each.text.endswith(" is there") for each in found)
    begun = time.perf_counter()
    assert not any(source.wrong() for source in sources(row.config))
    assert time.perf_counter() - begun < 0.5, "nothing is loaded"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def of_type(folder: Path, kind: str) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": kind}))


def rename(file: Path, name: str) -> None:
    file.rename(file.with_name(name))


def without_template(folder: Path) -> None:
    for file in [*folder.glob("chat_template*"), *folder.glob("token*")]:
        file.unlink()
    save_tokenizer(folder, template=False)


Break = Callable[[Path], object]
DATA: list[tuple[Break, str]] = [
    (lambda f: rename(f / "LibriSpeech/test-clean", "tests"), "the split test-clean: .* has are ifeval, tests, train"),
    (lambda f: next(f.rglob("train-clean-100/*/*/*.txt")).unlink(), r"flac files, but no \.trans\.txt beside them"),
    (lambda f: shutil.rmtree(f / "magpie/data"), "magpie holds no texts"),
    (lambda f: published_files.make_magpie(f / "magpie", [{"a": 1}] * 2, 2), "column 'input' or 'output' is missing"),
    (lambda f: (f / "ifeval.jsonl").write_text("no JSON\n"), r"data\.ifeval\.path: .*jsonl:1: not JSON"),
]  # fmt: skip
QUESTIONS: list[tuple[Break, str]] = [
    (lambda f: shutil.rmtree(f / "web_questions/data"), r"data\.questions\.web_questions\.path: .* is no question set"),
    (lambda f: shutil.copytree(f / "llama_questions", f / "web_questions", dirs_exist_ok=True),
     r"data\.questions\.web_questions\.path: .* column 'answers' is missing"),
]  # fmt: skip
SPEECH: list[tuple[str, Break, str]] = [
    ("encoder", lambda f: (f / "encoder.pt").write_text("hello"), r"encoder\.pt: cannot be read as a checkpoint of "),
    ("encoder", lambda f: np.save(f / "kmeans.npy", np.zeros((9, 32))), r"quantizer\.clusters is 20; it must be the 9"),
    ("encoder", lambda f: np.save(f / "kmeans.npy", np.zeros(9)), r"not float64 of shape \(9,\)"),
    ("encoder", lambda f: cut(f / "kmeans.npy"), r"centroids is .*kmeans\.npy; it must be a \.npy file"),
    ("speecht5", lambda f: of_type(f / "tts", "bark"), "a SpeechT5, not a model of type bark"),
    ("speecht5", lambda f: (f / "tts/spm_char.model").unlink(), r"a SpeechT5: it has no spm_char\.model"),
    ("speecht5", lambda f: of_type(f / "hifigan", "vits"), "a HiFi-GAN of SpeechT5, not a model of type vits"),
    ("speecht5", lambda f: (f / "spkrec-xvect.zip").write_text(""), r"must be a zip of \.npy files"),
    ("code_hifigan", lambda f: (f / "vocoder/config.json").unlink(), r"a SeamlessM4T v2: it has no config\.json"),
    ("whisper", lambda f: (f / "whisper/tokenizer.json").unlink(), r"a Whisper: it has no tokenizer\.json"),
]
MODEL: list[tuple[Break, str]] = [
    (lambda f: (f / "config.json").unlink(), r"has no config\.json: it must be"),
    (lambda f: next(f.glob("model-*")).unlink(), r"llama lacks model-\S+, which its"),
    (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer: there is no tokenizer.json and"),
    (lambda f: without_template(f), "has no chat template: take a model"),
]


def agree(finding: Finding, row: Row, label: str, out: Path, context: Any, said: str) -> None:
    """The step that reads it ends with the doctor's line, as far as it goes."""
    assert finding.remedy.startswith("set ")
    (step,) = (each for each in closure(row.steps) if each.label == label)
    out.mkdir()
    with pytest.raises(ValueError, match=said) as error:
        step.run({}, out, context)
    told, found = str(error.value), finding.text
    both = "speech.aligner.whisper.model or speech.recognizer.model"
    assert told.replace(both, "speech.aligner.whisper.model").startswith(found.rstrip(")"))


def refused(overrides: list[str], count: int = 1) -> tuple[Finding, Row]:
    found, row = look(overrides)
    no = [each for each in found if each.state == "no"]
    assert len(no) == count and {each.state for each in found} == {"ok", "no"}
    return no[0], row


@pytest.mark.parametrize(("broken", "said"), DATA)
def test_data_that_is_not_whole(here: Any, tmp_path: Path, context: Any, broken: Break, said: str) -> None:
    folder, overrides = here
    broken(folder / "data")
    agree(*refused(overrides), "datasets", tmp_path / "out", context, said)


@pytest.mark.parametrize(("broken", "said"), QUESTIONS)
def test_a_question_set_that_does_not_fit_is_refused_with_the_row(here: Any, broken: Break, said: str) -> None:
    """Its checksum is taken when the row is laid out."""
    folder, overrides = here
    broken(folder / "data")
    with pytest.raises(ConfigError, match=said):
        look(overrides)


@pytest.mark.parametrize(("component", "broken", "said"), SPEECH)
def test_components_that_are_others(
    here: Any, tmp_path: Path, context: Any, component: str, broken: Break, said: str
) -> None:
    folder, overrides = here
    broken(folder / "components")
    agree(*refused(overrides, 2 if component == "whisper" else 1), component, tmp_path / "out", context, said)


@pytest.mark.parametrize(("broken", "said"), MODEL)
def test_a_model_that_cannot_be_trained(here: Any, tmp_path: Path, context: Any, broken: Break, said: str) -> None:
    folder, overrides = here
    broken(folder / "llama")
    agree(*refused(overrides), "backbone", tmp_path / "out", context, said)


def test_one_folder_is_looked_at_for_each_of_its_settings(here: Any) -> None:
    folder, overrides = here
    whisper = folder / "components" / "whisper"
    finding, _ = refused([*overrides, f"speech.synthesizer.vocoder={whisper}"])
    assert finding.text.startswith(f"speech.synthesizer.vocoder is '{whisper}'; it must be a HiFi-GAN of SpeechT5")


def test_a_given_model_is_looked_into_as_well(files: tuple[Path, list[str]], tmp_path: Path) -> None:
    """A whole one in place of the base, an adapter beside it."""
    folder, overrides = files
    given = [f"+strategy.given={{model: {folder / 'llama'}}}", "strategy=none"]
    finding, _ = refused([*overrides, *given])
    assert finding.text.startswith("strategy.given.model: ") and "has no unit tokens of the form <|0|>" in finding.text
    assert "model.pretrained" not in " ".join(each.text for each in look([*overrides, *given])[0])
    finding, _ = refused([*overrides, "strategy=none", f"+strategy.given={{adapter: {tmp_path}}}"])
    assert finding.text.startswith("strategy.given.adapter: ") and "has no adapter_config.json" in finding.text
