"""Turns one shard of a list into units: audio read or spoken, words aligned, frames numbered.

A shard is a stretch of its list. It is worked through in chunks, each of which is kept whole in the step's work folder
when it is done, so that a step that was killed goes on at its chunk and leaves the same bytes.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from src.data import jsonl, recordings
from src.data.draw import first_of_each_set
from src.data.unit_format import Units
from src.speech import load
from src.speech.audio import SAMPLE_RATE, NoAudio, Word, write_audio
from src.speech.gather import COUNTS, FILES, join
from src.speech.kmeans import extract_units
from src.speech.published_settings import UtterancesConfig
from src.speech.settings import full_names
from src.speech.units_of_words import FrameAligner
from src.speech.word_times import CannotAlign, align

if TYPE_CHECKING:
    from src.grid.context import Context
    from src.speech.speecht5 import SpeechT5Synthesizer

CHUNK = {"asr": 512, "sqa": 128, "eval_qa": 256, "eval_asr": 256}
"""Rows of a list whose audio is in memory at once: some 400 MB of LibriSpeech."""
TOO_SHORT = "shorter than a frame of units"
UNSPEAKABLE = "a word is too long to be spoken"
SILENT = "nothing is spoken"
UNREADABLE = "unreadable audio"

Audio = npt.NDArray[np.float32]
Row = dict[str, Any]


@dataclass
class Part:
    """A text and its speech: a whole utterance, or the question or the answer of a pair."""

    text: str
    audio: Audio
    align: bool = False
    """Its words are to be aligned."""
    words: tuple[Word, ...] = ()
    units: list[int] = field(default_factory=list)
    dropped: str = ""
    """Why it has no units."""
    unaligned: str = ""
    """Why its words are not known."""

    def whole(self) -> Row:
        """The text with all of its units."""
        return {"text": self.text, "words": [self.text], "units": [self.units]}


class Progress:
    """Counts what is done and the audio in it; a row counts as its parts have gone through each phase."""

    def __init__(self, context: "Context", total: int) -> None:
        self._context, self._total = context, total
        self._started = time.monotonic()
        self._rows = self._done = 0
        self._phases = 1
        self._samples = self._samples_before = 0

    def resumed(self, rows: int, samples: int) -> None:
        """Rows that an earlier attempt has left."""
        self._rows += rows
        self._samples += samples
        self._samples_before += samples

    def begin(self, phases: int) -> None:
        """A chunk begins whose parts go through so many phases, all parts taken together."""
        self._phases, self._done = max(1, phases), 0

    def advance(self, rows: int, count: int = 1) -> None:
        """So many parts of the chunk of `rows` rows went through a phase."""
        self._done += count
        done = self._rows + rows * min(1.0, self._done / self._phases)
        self._context.report(done=int(done), total=self._total)

    def end(self, rows: int, samples: int) -> None:
        """A chunk is done."""
        self._rows += rows
        self._samples += samples
        hours = (self._samples - self._samples_before) / SAMPLE_RATE / 3600
        elapsed = max(time.monotonic() - self._started, 1e-9) / 3600
        self._context.report(
            done=self._rows,
            total=self._total,
            hours=round(self._samples / SAMPLE_RATE / 3600, 3),
            hours_per_hour=round(hours / elapsed, 1),
        )


@dataclass(frozen=True)
class Folders:
    """The artifacts that a list needs."""

    corpus: Path
    encoder: Path
    quantizer: Path
    """The encoder's artifact where its centroids are published, else that of a step `kmeans`."""
    aligner: Path | None = None
    """Whisper, for a list whose words are aligned."""
    synthesizer: Path | None = None
    """SpeechT5, for a list that is spoken."""


class Shard:
    """The components that a list needs, and what they make of its rows."""

    def __init__(self, config: UtterancesConfig, folders: Folders) -> None:
        self.config = config
        self.corpus = folders.corpus
        self.encoder = load.encoder(folders.encoder)
        self.quantizer = load.quantizer(folders.quantizer)
        self.folders = folders
        self.alignment = config.alignment
        self.word_times = self._word_times(folders.aligner) if folders.aligner else None
        self.fault = ""
        """Why the last recording that could not be decoded could not."""
        self.to_align: set[str] = set()
        if config.list == "asr":
            self.to_align = {row["id"] for row in jsonl.read(self.corpus / "tts.jsonl")}
        self.units = Units(self.encoder.frame_rate, self.quantizer.clusters, repeats=True)

    @cached_property
    def synthesizer(self) -> "SpeechT5Synthesizer":
        """The voice, opened when there is something to speak."""
        assert self.folders.synthesizer is not None
        return load.synthesizer(self.folders.synthesizer)

    def _word_times(self, folder: Path) -> Callable[..., list[tuple[Word, ...]]]:
        if self.config.backend == "transformers":
            return load.whisper(folder).words
        from src.speech.whisper_timestamped import TimestampedWhisper

        settings = load.settings_of(folder, "whisper") or {}
        return TimestampedWhisper(folder / load.MODEL, settings.get("language")).words

    def chunk(self, rows: Sequence[Row], keep: set[str], progress: Progress, out: Path) -> None:
        """Write the files of these rows and their counts into `out`. keep: ids whose audio is kept."""
        pairs = self.config.list == "sqa"
        phases = 2 * len(rows) * (2 if pairs else 1) + len(rows) * (self.alignment is not None)
        progress.begin(phases)

        def finished(places: Sequence[int]) -> None:
            progress.advance(len(rows), len(places))

        parts = [[self._read(row, finished)] if "audio" in row else self._texts(row) for row in rows]
        unread = [own for own, row in zip(parts, rows, strict=True) if "audio" not in row]
        self._speak([part for own in unread for part in own], finished)
        flat = [part for own in parts for part in own]
        self._align([part for part in flat if part.align and not part.dropped], finished)
        # The half of a pair whose other half is lost is not needed.
        needed = [own for own in parts if not any(part.dropped or (pairs and part.unaligned) for part in own)]
        self._number([part for own in needed for part in own], finished)
        counts = self._write(rows, parts, keep, out)
        (out / COUNTS).write_text(json.dumps(counts, ensure_ascii=False), encoding="utf-8")

    def _read(self, row: Row, finished: Callable[[Sequence[int]], None]) -> Part:
        text = row["question"] if self.config.list == "eval_qa" else row["text"]
        part = Part(text, np.zeros(0, np.float32), align=row["id"] in self.to_align)
        try:
            part.audio = recordings.read(row["audio"], self.corpus)
        except NoAudio as error:
            part.dropped, self.fault = UNREADABLE, str(error)
        finished([0])
        return part

    def _texts(self, row: Row) -> list[Part]:
        """What is to be spoken of a row: a question, and its answer where that is trained on."""
        nothing = np.zeros(0, np.float32)
        answer = [Part(row["answer"], nothing, align=True)] if self.config.list == "sqa" else []
        return [Part(row["question"], nothing), *answer]

    def _speak(self, parts: Sequence[Part], finished: Callable[[Sequence[int]], None]) -> None:
        if not parts:
            return
        speakable = []
        for part in parts:
            try:
                pieces = self.synthesizer.pieces(part.text)
            except ValueError:
                part.dropped = UNSPEAKABLE
            else:
                part.dropped = "" if pieces else SILENT
            if not part.dropped:
                speakable.append(part)
        audios = self.synthesizer.speak([part.text for part in speakable], finished)
        for part, audio in zip(speakable, audios, strict=True):
            part.audio = audio
            part.dropped = "" if len(audio) else SILENT

    def _align(self, parts: Sequence[Part], finished: Callable[[Sequence[int]], None]) -> None:
        if self.alignment is None or self.word_times is None:
            return
        heard = self.word_times([part.audio for part in parts], finished)
        for part, words in zip(parts, heard, strict=True):
            try:
                part.words = align(part.text, words, len(part.audio) / SAMPLE_RATE, self.alignment.min_similarity)
            except CannotAlign as reason:
                part.unaligned = str(reason)

    def _number(self, parts: Sequence[Part], finished: Callable[[Sequence[int]], None]) -> None:
        units = extract_units(self.encoder, self.quantizer, [part.audio for part in parts], finished)
        for part, own in zip(parts, units, strict=True):
            part.units = own.tolist()
            part.dropped = "" if part.units else TOO_SHORT

    def _write(self, rows: Sequence[Row], parts: Sequence[Sequence[Part]], keep: set[str], out: Path) -> dict[str, Any]:
        name = self.config.list
        written: dict[str, list[Row]] = {file: [] for file in FILES[name]}
        dropped: dict[str, Counter[str]] = {file: Counter() for file in FILES[name]}
        samples = 0
        for row, own in zip(rows, parts, strict=True):
            reason = next((part.dropped or (name == "sqa" and part.unaligned) for part in own
                           if part.dropped or (name == "sqa" and part.unaligned)), "")  # fmt: skip
            if reason:
                dropped[name][reason] += 1
            else:
                written[name].append(self._row(row, own))
                samples += sum(len(part.audio) for part in own)
            if name == "asr" and own[0].align:
                if reason := own[0].dropped or own[0].unaligned:
                    dropped["tts"][reason] += 1
                else:
                    written["tts"].append({"id": row["id"], **self._by_word(own[0])})
            if row["id"] in keep and len(own[0].audio):
                write_audio(out / "audio" / f"{row['id']}.flac", own[0].audio)
        for file, lines in written.items():
            jsonl.write(out / f"{file}.jsonl", lines)
        data = {
            file: {"kept": len(lines), "dropped": dict(sorted(dropped[file].items()))}
            for file, lines in written.items()
        }
        return {"data": data, "samples": samples}

    def _row(self, row: Row, own: Sequence[Part]) -> Row:
        if self.config.list == "sqa":
            return {"id": row["id"], "question": own[0].whole(), "answer": self._by_word(own[1])}
        if self.config.list == "eval_qa":
            return {"id": row["id"], "set": row["set"], "question": own[0].whole()}
        return {"id": row["id"], **own[0].whole()}

    def _by_word(self, part: Part) -> Row:
        assert self.alignment is not None
        units = FrameAligner(self.alignment.silence)(part.units, part.words, self.units.frame_rate)
        return {"text": part.text, "words": [word.text for word in part.words], "units": units}


def shard_of(rows: Path, shard: int, shards: int) -> list[Row]:
    """The rows of one of `shards` stretches of equal length of a list. Joined in their order they are the list."""
    total = sum(1 for _ in jsonl.read(rows))
    return list(islice(jsonl.read(rows), shard * total // shards, (shard + 1) * total // shards))


@full_names()
def shard_units(settings: UtterancesConfig, folders: Folders, out: Path, context: "Context") -> dict[str, Any]:
    """Write the shard's part of the artifact `units` (see `src.speech.gather`), units.json, and counts.json: what was
    kept and dropped, and the samples of audio behind what was kept.

    Raises ValueError for centroids of another encoder, audio that is not there, and where more than half of it cannot
    be decoded.
    """
    rows = shard_of(folders.corpus / f"{settings.list}.jsonl", settings.shard, settings.shards)
    keep = first_of_each_set(rows, settings.keep_audio) if settings.list == "eval_qa" else set()
    shard = Shard(settings, folders)
    progress = Progress(context, len(rows))
    chunks = []
    unreadable = 0
    for start in range(0, len(rows), CHUNK[settings.list]):
        own = rows[start : start + CHUNK[settings.list]]
        done, made = context.chunk(f"{start}-{start + len(own)}", partial(shard.chunk, own, keep, progress))
        part = json.loads((done / COUNTS).read_text(encoding="utf-8"))
        (progress.end if made else progress.resumed)(len(own), part["samples"])
        chunks.append(done)
        unreadable += part["data"][settings.list]["dropped"].get(UNREADABLE, 0)
        if unreadable > len(rows) / 2:
            shutil.rmtree(done.parent)  # once the files are mended, they are read again
            raise ValueError(
                f"more than half of the {len(rows)} recordings of {settings.list} cannot be decoded: {shard.fault}"
            )
    counts = join(chunks, FILES[settings.list], out)
    (out / COUNTS).write_text(json.dumps(counts, ensure_ascii=False) + "\n", encoding="utf-8")
    shard.units.write(out)
    return {"data": counts["data"], "hours": round(counts["samples"] / SAMPLE_RATE / 3600, 4)}
