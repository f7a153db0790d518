"""Is this machine ready? Against machines that the tests make up: commands on the PATH, a hub, a cache, a disk."""

import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launchers.base import scheduler
from launchers.cluster import findings
from src.doctor import compose, single
from src.grid.plan import make_plan
from src.grid.store import Store
from src.machine import gpus as gpus_module
from src.machine import services, software, storage
from src.machine.finding import Finding
from src.machine.requirements import answers, requirements
from src.machine.settings import Gpu
from src.machine.sources import sources

ROOT = Path(__file__).resolve().parents[1]
CANARY = "hf_canaryCanaryCanary0123456789"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as is asked for: who may have what, and what is in a repository."""

    gated: tuple[str, ...] = ()
    asked: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        name = re.match(r"/api/(?:models|datasets)/([^/]+/[^/]+)", self.path)
        if name is None:  # what the hub's library asks for itself
            self.send_error(404)
            return
        type(self).asked.append((self.path, self.headers.get("Authorization")))
        if self.path.endswith("/auth-check"):
            refused = name[1] in self.gated
            self.send_response(403 if refused else 200)
            if refused:
                self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        files = ["config.json", "model.safetensors", "spkrec-xvect.zip", "pickle.bin"]
        files += [f"{place}/{split}-0.parquet" for place in ("data", "rc.wikipedia") for split in ("train", "test")]
        body = {
            "_id": "x", "id": name[1], "sha": "a" * 40, "private": False, "tags": [], "cardData": {"license": "mit"},
            "siblings": [{"rfilename": file, "size": 2_000_000_000} for file in files],
        }  # fmt: skip
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    kind = type("OneHub", (Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()


def doctor(tmp_path: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process whose cache, home and path are the test's own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "WANDB_", "HUGGING"))}
    own = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "src.doctor", *overrides, f"outputs={tmp_path / 'outputs'}"]
    return subprocess.run(
        command, cwd=ROOT, env=plain | own | environment, capture_output=True, text=True, timeout=300, check=False
    )


def found(done: subprocess.CompletedProcess[str], state: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith(f"  {state} ")]


def test_the_laptop_is_ready_without_torch_or_a_network(tmp_path: Path) -> None:
    done = doctor(tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\nready\n") and not found(done, "no") and not found(done, "unknown")
    assert any(line.startswith("Python 3.") for line in found(done, "ok"))
    assert "nothing is downloaded" in done.stdout and "espeak-ng" in done.stdout
    assert list(tmp_path.iterdir()) == []  # nothing was written
    code = "import sys; from src.doctor import main; main(['profile=laptop']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")


def test_the_paper_misses_what_is_not_here_and_each_has_its_remedy(tmp_path: Path) -> None:
    """No network, an empty cache, no GPU."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "c++").symlink_to("/bin/true")
    done = doctor(tmp_path, "-m", "profile=paper", "strategy=glob(*)", HF_HUB_OFFLINE="1", HF_TOKEN=CANARY,
                  PATH=str(tmp_path / "bin"))  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    missing = [i for i, line in enumerate(lines) if line.startswith("  no ")]
    assert all(lines[i + 1].lstrip().startswith("-> ") for i in missing)
    assert lines[-1] == f"not ready: {len(missing)} of these are missing"
    told = "\n".join(found(done, "no"))
    for setting in (
        "model.pretrained: meta-llama/Llama-3.2-11B-Vision-Instruct", "speech.encoder.model", "speech.quantizer",
        "speech.aligner.whisper.model: openai/whisper-large-v3", "speech.vocoder.model", "data.speech.path",
        "data.text.path", "data.ifeval.path", "4 GPUs for train.ranks=4; there are 0",
    ):  # fmt: skip
        assert setting in told, setting
    assert "Llama 3.2 Community License" in told and "CC-BY-NC 4.0" in told and "HF_HUB_OFFLINE is set" in told
    assert "speech.recognizer.model" not in told  # the same repository as the aligner's
    (command,) = [line for line in lines if "`hf download meta-llama/Llama-3.2-11B-Vision-Instruct " in line]
    assert "--revision main --include 'model*.safetensors' --include " in command  # and not what is in original/
    assert "a token of the Hugging Face hub is configured" in done.stdout
    assert CANARY not in done.stdout + done.stderr
    assert "strategy=merge_dare, one cell of strategy=glob(*)" in lines[0]


def test_a_hub_that_answers_says_who_may_have_what(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    address, answered = hub
    answered.gated = ("meta-llama/Llama-3.2-11B-Vision-Instruct",)
    files = {}
    for name in ("encoder.pt", "centroids.npy"):
        files[name] = tmp_path / name
    zipfile.ZipFile(files["encoder.pt"], "w").close()
    np.save(files["centroids.npy"], np.zeros((10_000, 2), np.float32))
    local = [f"speech.encoder.model={files['encoder.pt']}", f"speech.quantizer.centroids={files['centroids.npy']}",
             f"data.speech.path={tmp_path / 'nowhere'}"]  # fmt: skip
    done = doctor(tmp_path, "profile=paper", *local, HF_ENDPOINT=address, HF_TOKEN=CANARY)
    assert done.returncode == 1, done.stdout + done.stderr
    no, yes = "\n".join(found(done, "no")), "\n".join(found(done, "ok"))
    assert "meta-llama/Llama-3.2-11B-Vision-Instruct is gated, and not open to you" in no
    assert f"data.speech.path: there is no {tmp_path / 'nowhere'}" in no
    assert "whisper" not in no and "microsoft/speecht5_tts can be downloaded (" in yes
    assert "speech.synthesizer.xvectors: Matthijs/cmu-arctic-xvectors can be downloaded (2.0 GB; mit)" in yes
    assert f"speech.encoder.model: {files['encoder.pt']} is there" in yes
    assert CANARY not in done.stdout + done.stderr
    assert {token for _, token in answered.asked} == {f"Bearer {CANARY}"}  # it was used, and not shown

    # the same model in the cache is not asked for
    snapshot = tmp_path / "hf" / "hub" / "models--meta-llama--Llama-3.2-11B-Vision-Instruct"
    (snapshot / "snapshots" / ("b" * 40)).mkdir(parents=True)
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("b" * 40)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "snapshots" / ("b" * 40) / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "snapshots" / ("b" * 40) / "model-1.safetensors").touch()
    cached = "model.pretrained: meta-llama/Llama-3.2-11B-Vision-Instruct is in the hub's cache"
    assert cached not in doctor(tmp_path, "profile=paper", *local, HF_ENDPOINT=address).stdout  # half of it
    (snapshot / "snapshots" / ("b" * 40) / "model-2.safetensors").touch()
    done = doctor(tmp_path, "profile=paper", *local, HF_ENDPOINT=address)
    assert cached in done.stdout
    assert "no token of the Hugging Face hub is configured; nothing here needs one" in done.stdout


def test_wrong_overrides_are_one_line(tmp_path: Path) -> None:
    for wrong, said in (("profile=nonsense", "nonsense"), ("train.lr=abc", "train.lr"), ("nonsense=1", "nonsense")):
        done = doctor(tmp_path, wrong)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_help_says_how_to_use_it(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--help")
    assert done.returncode == 0 and "python -m src.doctor profile=paper" in done.stdout and "Exit code" in done.stdout


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["-m", "strategy=glob(*)", "profile=smoke"], ["profile=smoke"]),
        (["seed=3,4", "train.ranks=2"], ["seed=3", "train.ranks=2"]),
        (["seed=range(3)", "+a.b=[1,2]", "~c"], ["+a.b=[1,2]", "~c"]),
    ],
)
def test_one_cell_of_a_sweep(given: list[str], kept: list[str]) -> None:
    assert single(given) == kept


# Each part, on a machine that is made up


def states(findings: list[Finding]) -> list[str]:
    return [each.state for each in findings]


def cell(*overrides: str) -> dict[str, Any]:
    return compose(overrides)[0].config


def test_a_package_of_another_version_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"numpy": "1.0", "torch": "2.13.0+cu128", "peft": None}
    monkeypatch.setattr(software, "installed", lambda name: known.get(name, "7"))
    told = software._packages(["numpy==2.4.6", "torch==2.13.0", "peft==0.21.2", "lm-eval[ifeval]==7"])
    assert states(told) == ["ok", "no", "no"] and told[0].text.startswith("2 packages")
    assert told[1].text == "numpy 1.0, and pyproject.toml has 2.4.6" and "numpy==2.4.6" in told[1].remedy
    assert "peft is not installed" in told[2].text


@pytest.mark.parametrize(
    ("override", "package"),
    [
        ("train.attention=flash_attention_2", "flash-attn"),
        ("train.fused_loss=true", "liger-kernel"),
        ("++train.stages.sqa.fused_loss=true", "liger-kernel"),
        ("+speech.aligner.backend=whisper_timestamped", "whisper-timestamped"),
    ],
)
def test_a_setting_that_needs_a_package_asks_for_it(
    override: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = ["profile=paper", override.removeprefix("+")]
    monkeypatch.setattr(software, "installed", lambda name: None)
    (missing,) = software.packages_asked_for(cell(*paper))
    assert missing.state == "no" and f"pip install {package}" in missing.remedy
    monkeypatch.setattr(software, "installed", lambda name: "1.2")
    assert states(software.packages_asked_for(cell(*paper))) == ["ok"]
    assert software.packages_asked_for(cell("profile=paper")) == []


def smi(folder: Path, *gpus: str) -> str:
    lines = "".join(f"echo '{i}, GPU-{i}{i}, {gpu}'\n" for i, gpu in enumerate(gpus))
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}")
    (folder / "nvidia-smi").chmod(0o755)
    return str(folder)


A6000, V100, T4 = "NVIDIA RTX A6000, 49140, 8.6", "Tesla V100, 32768, 7.0", "Tesla T4, 15360, 7.5"


@pytest.mark.parametrize(
    ("here", "cuda", "missing"),
    [
        ([A6000] * 4, "12.8", []),
        ([A6000] * 2, "12.8", ["4 GPUs for train.ranks=4; there are 2"]),
        ([V100] * 4, "12.8", ["bfloat16"]),
        ([A6000, A6000, A6000, T4], "12.8", ["31.1 GiB are needed; Tesla T4 has 15.0", "bfloat16"]),
        ([A6000] * 4, None, ["torch is built for CPUs alone"]),
    ],
)
def test_the_gpus_against_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: list[str], cuda: str | None, missing: list[str]
) -> None:
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", *here), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus_module, "cuda_of_torch", lambda: cuda)
    composed, _ = compose(["profile=paper", "strategy=none"])
    plan = make_plan([composed], Store(tmp_path))
    needed, asked = requirements(plan, Store(tmp_path)), answers(plan)
    told = gpus_module.gpus(composed.config, Gpu("RTX A6000", 48), needed, asked, elsewhere=False)
    wrong = [each.text for each in told if each.state == "no"]
    assert len(wrong) == len(missing) and all(part in text for part, text in zip(missing, wrong, strict=True))
    assert "unknown" not in states(told)
    elsewhere = gpus_module.gpus(composed.config, Gpu("RTX A6000", 48), needed, asked, elsewhere=True)
    assert [each.text for each in elsewhere if each.state == "no"] == [
        each for each in wrong if each == "torch is built for CPUs alone"
    ]


def test_a_gpu_that_is_too_small_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    composed, _ = compose(["profile=paper", "strategy=none"])
    plan, gpu = make_plan([composed], Store(tmp_path)), {"memory_gb": 22}
    needed, asked = requirements(plan, Store(tmp_path), gpu), answers(plan, gpu)
    told = gpus_module.gpus(composed.config, Gpu("RTX A6000", 22), needed, asked, elsewhere=True)
    (refused,) = [each for each in told if "does not fit" in each.text]
    assert refused.state == "no" and refused.remedy.count("; with ") == 2
    assert "speech.recognizer.dtype=float16" in refused.remedy


def test_the_torch_that_is_installed_says_what_it_was_built_for() -> None:
    import torch

    assert software.cuda_of_torch() == torch.version.cuda


def test_slurm_is_looked_at_where_its_launcher_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, local = compose([])
    _, cluster = compose(["hydra/launcher=slurm_gpu", "hydra.launcher.resources.train.partition=gpu"])
    bare = tmp_path / "bare"
    bare.mkdir()
    monkeypatch.setenv("PATH", str(bare))
    assert states(findings(local)) == ["note"]
    (missing,) = findings(cluster)
    assert missing.state == "no" and "sbatch" in missing.text and "login node" in missing.remedy
    for name in (*scheduler("slurm").commands, "sinfo"):
        (bare / name).write_text("#!/bin/sh\necho 'cpu'\necho 'big'\n")
        (bare / name).chmod(0o755)
    told = findings(cluster)
    assert states(told) == ["ok", "no"] and told[1].text == "partition gpu" and "big, cpu" in told[1].remedy
    _, fits = compose(["hydra/launcher=slurm", "hydra.launcher.partition='cpu,other'"])
    assert states(findings(fits)) == ["ok", "ok"]
    (bare / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    assert states(findings(fits)) == ["ok", "unknown"]


def test_wandb_without_a_key_is_ready_unless_it_has_to_be_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = {"mode": "auto", "project": "palimpsest", "entity": None}
    assert services.wandb(settings)[0].text.startswith("wandb: offline")
    (missing,) = services.wandb(settings | {"mode": "online"})
    assert missing.state == "no" and "wandb login" in missing.remedy
    monkeypatch.setenv("WANDB_API_KEY", "canaryCanary")
    (told,) = services.wandb(settings)
    assert told.state == "ok" and "a key is configured" in told.text and "canary" not in told.text


def test_disk_is_counted_together_where_store_and_cache_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, _ = compose(["profile=paper", "strategy=none"])
    plan = make_plan([composed], Store(tmp_path))
    needed = requirements(plan, Store(tmp_path))
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**11}))
    (together,) = storage.storage(plan, tmp_path / "store", needed, tmp_path / "hf" / "hub", 90.0)
    assert together.state == "no" and "outputs=" in together.remedy
    (store,) = storage.storage(plan, tmp_path / "store", needed, None, 0.0)
    assert store.state == "ok"
    about = [float(re.findall(r"about ([\d.]+) GB", each.text)[0]) for each in (together, store)]
    assert about[0] - about[1] == pytest.approx(90, abs=0.1)
    training = sum(each.disk.artifact for each in needed) + max(each.disk.checkpoint for each in needed)
    others = sum(e.megabytes * 1e6 for e in plan.entries.values() if e.step.kind != "train")
    assert about[1] == pytest.approx((training + others) / 1e9, abs=0.06)
    # a merge needs more than a checkpoint while it runs
    merged, _ = compose(["profile=paper", "strategy=merge_ties"])
    plan = make_plan([merged], Store(tmp_path))
    (store,) = storage.storage(plan, tmp_path / "store", requirements(plan, Store(tmp_path)), None, 0.0)
    artifacts = sum(each.disk.artifact for each in needed)
    others = sum(e.megabytes * 1e6 for e in plan.entries.values() if e.step.kind != "train")
    copies = 3 * 4 * needed[0].model.changed
    assert float(re.findall(r"about ([\d.]+) GB", store.text)[0]) == pytest.approx(
        (artifacts + others + copies) / 1e9, abs=0.06
    )
    assert copies > needed[0].disk.checkpoint


@pytest.mark.parametrize("profile", ["paper", "single_gpu"])
def test_every_source_of_a_profile_is_named_with_its_setting(profile: str) -> None:
    """Each setting that is named exists, and leads to what it says."""
    settings = cell(f"profile={profile}")
    wanted = sources(settings)
    assert len(wanted) >= 12
    for source in wanted:
        value: Any = settings
        for part in source.setting.split("."):
            value = value[part]
        assert value in (source.where, None), source.setting
        licensed = source.licence is not None or source.where == "Matthijs/cmu-arctic-xvectors"
        assert licensed and (source.gigabytes or 0) > 0, source
    assert [source.where for source in wanted if source.gated] == [settings["model"]["pretrained"]]
    assert sources(cell("profile=laptop")) == []
