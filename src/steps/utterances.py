"""The speech of one shard of a list as units of published components."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.speech.published_settings import SPOKEN, PretrainedSpeech, UtterancesConfig

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterances(Step):
    """Read or speak the utterances of a shard, align their words where the list needs it, and write their units."""

    version = 2
    needs = ("torch", "transformers", "soundfile")
    gpu = True

    config: UtterancesConfig
    corpus: Step
    encoder: Step
    quantizer: Step
    """The encoder itself where its centroids are published, else a step `kmeans`."""
    aligner: Step | None = None
    synthesizer: Step | None = None

    @property
    def label(self) -> str:
        return f"utterances-{self.shard_name}"

    @property
    def shard_name(self) -> str:
        """Name of the shard in a step `gather`: asr-000."""
        return f"{self.config.list}-{self.config.shard:03d}"

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import utterances

        folders = utterances.Folders(
            corpus=inputs[self.corpus],
            encoder=inputs[self.encoder],
            quantizer=inputs[self.quantizer],
            aligner=inputs[self.aligner] if self.aligner else None,
            synthesizer=inputs[self.synthesizer] if self.synthesizer else None,
        )
        return utterances.shard_units(self.config, folders, out, context)


def shards_of(
    name: str, speech: PretrainedSpeech, corpus: Step, components: Mapping[str, Step], quantizer: Step
) -> list[Utterances]:
    """The steps that make units of the list `name`.

    components: the published components by role (src/steps/pretrained.py). quantizer: what numbers the frames.
    """
    return [
        Utterances(
            config=config,
            corpus=corpus,
            encoder=components["encoder"],
            quantizer=quantizer,
            aligner=components["aligner"] if config.alignment else None,
            synthesizer=components["synthesizer"] if name in SPOKEN else None,
        )
        for config in speech.list_settings(name)
    ]
