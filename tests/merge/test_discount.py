"""The discount against PEFT's own rescaling, and what its artifact shares with the stage's."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.helpers import rescale_adapter_scale
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from src.grid.store import Store
from src.merge.discount import discount
from src.model import difference
from src.steps.discount import Discount
from tests.steps.makers import train_step


@pytest.fixture
def stage(store: Path) -> Path:
    return store / "sqa-3"


@pytest.fixture
def discounted(store, stage, tmp_path):
    """Discounts to an alpha; the model that comes of it."""

    def made(alpha: float) -> dict[str, torch.Tensor]:
        (tmp_path / "out").mkdir()
        discount(alpha, 16, stage, tmp_path / "out")
        return difference.load(store / "base-0", tmp_path / "out").state_dict()

    return made


def by_peft(store: Path, stage: Path, factor: float) -> dict[str, torch.Tensor]:
    """PEFT's scaling of the adapter, then its merge."""
    model = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model")
    model.load_state_dict(load_file(stage / "full.safetensors"), strict=False)
    adapter = PeftModel.from_pretrained(model, stage / "adapter")
    with rescale_adapter_scale(adapter, factor):
        return adapter.merge_and_unload().state_dict()


@pytest.mark.parametrize("alpha", [14, 15, 16, 0, 13.5])
def test_equals_pefts_rescaling(alpha, store, stage, discounted):
    ours, theirs = discounted(alpha), by_peft(store, stage, alpha / 16)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def test_peft_takes_the_artifact_as_an_adapter(store, discounted, tmp_path):
    ours = discounted(14.0)
    theirs = by_peft(store, tmp_path / "out", 1.0)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_the_lora_part_is_scaled(store, stage, discounted):
    """At alpha 0 what is left is the base with the modules that were trained in full."""
    full, found = load_file(stage / "full.safetensors"), discounted(0)
    base = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model").state_dict()
    for name in found:
        torch.testing.assert_close(found[name], full.get(name, base[name]), rtol=0, atol=0)


def test_closed_form(store, stage, discounted):
    found = discounted(14)
    base = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model").state_dict()
    full, lora = load_file(stage / "full.safetensors"), load_file(stage / "adapter" / "adapter_model.safetensors")
    for layer, projection in [(0, "k_proj"), (1, "q_proj")]:
        name = f"model.layers.{layer}.self_attn.{projection}"
        a, b = (lora[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        expected = full.get(f"{name}.weight", base[f"{name}.weight"]) + 14 / 4 * b @ a
        torch.testing.assert_close(found[f"{name}.weight"], expected, rtol=0, atol=1e-6)


def test_the_weights_are_the_stages_own_files(stage, discounted, tmp_path):
    discounted(14)
    files = {file.relative_to(tmp_path / "out"): file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    own = files.pop(Path("adapter/adapter_config.json"))
    assert set(map(str, files)) == {"adapter/adapter_model.safetensors", "full.safetensors"}
    assert all(file.samefile(stage / name) for name, file in files.items())
    before = json.loads((stage / "adapter" / "adapter_config.json").read_text())
    assert before["lora_alpha"] == 16 and json.loads(own.read_text()) == before | {"lora_alpha": 14}


def test_on_another_file_system_they_are_copied(stage, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refused)
    discount(14, 16, stage, tmp_path)
    copy = tmp_path / "full.safetensors"
    assert copy.read_bytes() == (stage / "full.safetensors").read_bytes()
    assert not copy.samefile(stage / "full.safetensors")


@pytest.mark.parametrize(
    ("alpha", "trained", "message"),
    [
        (-1, 16, "discount.alpha=-1: must lie between 0 and the trained alpha, 16"),
        (17, 16, "discount.alpha=17: must lie between 0 and the trained alpha, 16"),
        (14, 32, "sqa-3 was trained with alpha 16, not 32"),
    ],
)
def test_a_wrong_alpha_is_named(alpha, trained, message, stage, tmp_path):
    with pytest.raises(ValueError, match=message):
        discount(alpha, trained, stage, tmp_path)


def test_a_damaged_file_is_found_in_every_artifact_that_shares_it(stage, context, tmp_path):
    """Published by the store as they are; then a byte of the shared file turns."""
    store = Store(tmp_path / "published")
    store.root.mkdir()
    train = train_step("sqa")
    step = Discount(alpha=14.0, trained_alpha=16.0, stage=train)

    def publish_both() -> None:
        for each in (train, step):
            if store.lookup(each, rehash=True) is None:
                out = store.work(each) / "out"
                if each is train:
                    shutil.copytree(stage, out)
                else:
                    out.mkdir(parents=True)
                    step.run({train: store.folder(train)}, out, context)
                store.publish(each, out, {}, 1.0)

    publish_both()
    shared = store.folder(step) / "full.safetensors"
    assert shared.samefile(store.folder(train) / "full.safetensors")
    assert store.lookup(train, rehash=True) and store.lookup(step, rehash=True)
    whole = shared.read_bytes()
    shared.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for rehash in (False, True):
        assert store.lookup(train, rehash) is None and store.lookup(step, rehash) is None
        assert "full.safetensors does not have its checksum" in store.damaged[step.name]
    publish_both()
    assert store.lookup(train, rehash=True) and store.lookup(step, rehash=True)
    assert shared.read_bytes() == whole and shared.samefile(store.folder(train) / "full.safetensors")
