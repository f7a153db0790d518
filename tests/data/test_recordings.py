"""Audio by reference, out of every kind of file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from src.data import downloads, recordings
from src.speech.audio import NoAudio
from tests.data.published_files import COMMIT, encoded, make_librispeech_parquet, tone


def test_a_flac_file_absolute_or_relative_to_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    file = tmp_path / "audio" / "x.flac"
    soundfile.write(file, tone(), 16_000)
    expected, _ = soundfile.read(file, dtype="float32")
    for reference, folder in ((str(file), tmp_path / "elsewhere"), ("audio/x.flac", tmp_path)):
        samples = recordings.read(reference, folder)
        assert samples.dtype == np.float32 and samples.ndim == 1
        np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
def test_other_rates_and_channels_become_16_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    left = tone(1.0, 300, rate)
    soundfile.write(tmp_path / "x.wav", np.stack([left, left / 2], axis=1)[:, :channels], rate)
    samples = recordings.read("x.wav", tmp_path)
    assert abs(len(samples) - 16_000) <= 2
    inner = slice(2_000, 14_000)  # a resampler rings at the ends
    expected = tone(1.0, 300) * (1.0 if channels == 1 else 0.75)
    np.testing.assert_allclose(samples[:16_000][inner], expected[: len(samples)][inner], atol=0.01)


def test_rows_of_a_parquet_file_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    spoken = [(f"text {n}", tone(0.1 + n / 20, 200 + 40 * n)) for n in range(7)]
    make_librispeech_parquet(tmp_path, "test.clean", spoken, files=1, group=3)
    groups: list[int] = []
    real = pyarrow.parquet.ParquetFile.read_row_group

    def watched(self: object, group: int, **options: object) -> object:
        groups.append(group)
        return real(self, group, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", watched)
    file = "all/test.clean/0000.parquet"
    for row in (*range(7), 2, 6):
        samples = recordings.read(f"{tmp_path / file}#{row}", tmp_path / "elsewhere")
        np.testing.assert_allclose(samples, spoken[row][1], atol=1e-4)
        np.testing.assert_array_equal(samples, recordings.read(f"{file}#{row}", tmp_path))
    assert groups == [0, 1, 2, 0]  # each once in order, and the first again for row 2


def test_bytes_of_other_formats_in_a_parquet_file(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    stereo = np.stack([tone(1.0, rate=44_100)] * 2, axis=1)
    rows = [{"audio": {"bytes": encoded(stereo, 44_100, "WAV"), "path": None}}, {"audio": {"bytes": None, "path": "x"}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert abs(len(recordings.read("x.parquet#0", tmp_path)) - 16_000) <= 2
    for number, message in ((1, "row 1 holds no audio"), (2, "has 2 rows, and none with the number 2")):
        with pytest.raises(ValueError, match=message):
            recordings.read(f"x.parquet#{number}", tmp_path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise.flac").write_bytes(b"no audio")
    soundfile.write(tmp_path / "nothing.wav", tone(0.0), 16_000)
    whole = encoded(tone(2.0), 16_000, "FLAC")
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    for reference, message, there in (
        ("none.flac", r"^none\.flac cannot be read: ", False),
        ("noise.flac", r"^noise\.flac cannot be read: ", True),
        ("cut.flac", r"^cut\.flac cannot be read: ", True),
        ("nothing.wav", r"^nothing\.wav cannot be read: it holds no sample$", True),
        ("none.parquet#1", r"^none\.parquet#1 cannot be read: ", False),
        ("hf://datasets/openslr/librispeech_asr/x.parquet#1", "is no file of a dataset on the hub", False),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            recordings.read(reference, tmp_path)
        assert (raised.type is NoAudio) == there, reference


def test_a_file_in_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    downloads.local.cache_clear()
    snapshot = tmp_path / "datasets--some--speech" / "snapshots" / COMMIT
    make_librispeech_parquet(snapshot, "test.clean", [("a", tone(0.2)), ("b", tone(0.3))], files=1)
    file = f"hf://datasets/some/speech@{COMMIT}/all/test.clean/0000.parquet"
    assert len(recordings.read(f"{file}#1", tmp_path / "elsewhere")) == 4_800
    with pytest.raises(ValueError, match=r"0001\.parquet could not be fetched"):
        recordings.read(f"{file.replace('0000', '0001')}#0", tmp_path)
