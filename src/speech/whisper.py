"""Whisper: what is said in audio, and when each word is.

    whisper = load_whisper(WhisperSettings(model="openai/whisper-large-v3"))
    texts = whisper(audios)
    words = whisper.words(audios)

Both run through the speech recognition pipeline of transformers, greedily. Word times (`return_timestamps="word"`) come
from the cross-attention of the heads that the model's generation settings name, by dynamic time warping. The weights
are under the Apache License 2.0.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import (
    AutomaticSpeechRecognitionPipeline,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.whisper import generation_whisper

from src.speech.audio import Word, to_float32
from src.speech.batches import Finished, by_length, default_device, within_memory
from src.speech.precision import products, weights
from src.speech.published_settings import WhisperSettings
from src.speech.warping import warp

# its own takes most of a second for a text, in Python, while the GPU waits
generation_whisper._dynamic_time_warping = warp  # type: ignore[assignment]

class BatchedWhisper(WhisperForConditionalGeneration):
    """Whisper whose word times do not depend on the batch, and that keeps no more of its attention than they need.

    transformers aligns each text of a batch together with the padding behind it, up to the longest text, and the
    padding takes a share of the audio. Here each text is aligned as it would be alone.

    Word times make transformers keep every attention map: of large-v3, 5.8 GB of the encoder for each audio, and 4 MB
    of the decoder for each token. Here only the decoder's heads that align are kept: 60 kB a token.
    """

    def _prepare_text_encoder_decoder_kwargs_for_generation(
        self, inputs_tensor: Any, model_kwargs: Any, model_input_name: Any, generation_config: Any
    ) -> Any:
        without_maps = copy(generation_config)
        without_maps.output_attentions = False
        whisper: Any = super()
        return whisper._prepare_text_encoder_decoder_kwargs_for_generation(
            inputs_tensor, model_kwargs, model_input_name, without_maps
        )

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: Any, *arguments: Any, **options: Any
    ) -> Any:
        """Comes after each step, before what the step returned is put away."""
        if outputs.cross_attentions is not None:
            outputs.decoder_attentions = ()
            outputs.cross_attentions = tuple(
                layer[:, torch.tensor(heads, dtype=torch.long, device=layer.device)]
                for layer, heads in zip(outputs.cross_attentions, self._aligning(), strict=True)
            )
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *arguments, **options)

    def _postprocess_outputs(self, seek_outputs: Any, *arguments: Any, **options: Any) -> Any:
        """Copies what it is given to the CPU, row by row; of the cache that is half a gigabyte for each audio."""
        if not isinstance(seek_outputs, Tensor):
            kept = {name: seek_outputs.get(name) for name in ("sequences", "scores", "cross_attentions")}
            seek_outputs = type(seek_outputs)(**kept)
        return super()._postprocess_outputs(seek_outputs, *arguments, **options)

    def _aligning(self) -> list[list[int]]:
        """The heads of each layer of the decoder that align words."""
        settings: Any = self.generation_config
        heads: list[list[int]] = [[] for _ in range(self.config.decoder_layers)]
        for layer, head in settings.alignment_heads:
            heads[layer].append(head)
        return heads

    def _extract_token_timestamps(
        self,
        generate_outputs: Any,
        alignment_heads: Any,
        time_precision: float = 0.02,
        num_frames: Tensor | None = None,
        num_input_ids: int = 0,
    ) -> Tensor:
        kept = self._aligning()
        places = [[layer, kept[layer].index(head)] for layer, head in alignment_heads]
        sequences, steps = generate_outputs.sequences, generate_outputs.cross_attentions
        timestamps = torch.zeros(sequences.shape, device=sequences.device)
        ended = torch.isin(sequences, torch.tensor(self.generation_config.eos_token_id, device=sequences.device))
        ended[:, :num_input_ids] = False
        ended[:, -1] = True
        for row, end in enumerate(ended.int().argmax(dim=1).tolist()):
            # The last token is not fed back, so that it has no attention of its own.
            layers = zip(*([layer[row : row + 1] for layer in step] for step in steps), strict=True)
            own = tuple(torch.cat(layer, dim=2)[:, :, :end] for layer in layers)
            timestamps[row : row + 1, : end + 1] = super()._extract_token_timestamps(
                type(generate_outputs)(sequences=sequences[row : row + 1, : end + 1], cross_attentions=(own,)),
                places,
                time_precision,
                None if num_frames is None else num_frames[row : row + 1],
                num_input_ids,
            )
        return timestamps


class WhisperRecognizer:
    """A Recognizer, and the source of word times. What it hears in audio does not depend on the audio beside it."""

    def __init__(
        self, model: BatchedWhisper, extractor: Any, tokenizer: Any, language: str | None = "en", batch_size: int = 16,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        """language: of the speech; None for a model of English alone. dtype: the setting, which the model's weights
        have already."""
        self.model = model.eval()
        self.dtype = dtype
        self.batch_size = batch_size
        self._window = extractor.n_samples
        self._pipeline: Any = AutomaticSpeechRecognitionPipeline(
            model=model, feature_extractor=extractor, tokenizer=tokenizer, device=model.device
        )
        self._generation: dict[str, Any] = {"num_beams": 1, "do_sample": False}
        if language is not None:
            self._generation |= {"language": language, "task": "transcribe"}

    def __call__(self, audios: Sequence[npt.NDArray[Any]], finished: Finished | None = None) -> list[str]:
        """What is said in each of `audios` ([samples]), in lower case; "" of no samples. `finished` gets the places of
        each batch that is done."""
        return [heard.get("text", "").strip().lower() for heard in self._heard(audios, False, finished)]

    def words(self, audios: Sequence[npt.NDArray[Any]], finished: Finished | None = None) -> list[tuple[Word, ...]]:
        """The words said in each of `audios` as Whisper writes them, with their times in seconds.

        Raises ValueError for a model that does not say which heads align words.
        """
        if not getattr(self.model.generation_config, "alignment_heads", None):
            raise ValueError(
                f"whisper.model = {self.model.name_or_path}: lacks alignment_heads in generation_config.json to tell "
                "when words are spoken, as OpenAI's models have"
            )
        return [
            tuple(Word(chunk["text"].strip(), *map(float, chunk["timestamp"])) for chunk in heard.get("chunks", ()))
            for heard in self._heard(audios, "word", finished)
        ]

    def _heard(
        self, audios: Sequence[npt.NDArray[Any]], timestamps: bool | str, finished: Finished | None
    ) -> list[dict[str, Any]]:
        """What the pipeline returns for each of `audios`; nothing of no samples."""
        results: list[dict[str, Any]] = [{} for _ in audios]
        lengths = [len(audio) for audio in audios]
        if finished and 0 in lengths:
            finished([i for i, length in enumerate(lengths) if not length])
        short = [i for i, length in enumerate(lengths) if 0 < length <= self._window]
        batches = [[short[j] for j in part] for part in by_length([lengths[i] for i in short], np.inf, self.batch_size)]

        def outputs_of(places: list[int]) -> list[dict[str, Any]]:
            timed = timestamps or lengths[places[0]] > self._window
            # A time that Whisper writes unasked would start another round at that time, for ever if it is 0.00.
            generation = self._generation | ({} if timed else {"force_unique_generate_call": True})
            with products(self.dtype):
                return self._pipeline(
                    [to_float32(audios[i]) for i in places],
                    batch_size=len(places),
                    return_timestamps=timed,
                    generate_kwargs=generation,
                )

        # What is longer than Whisper's window goes through in several, which needs timestamps.
        long = [[i] for i, length in enumerate(lengths) if length > self._window]
        for places, outputs in within_memory(long + batches, outputs_of):
            for i, output in zip(places, outputs, strict=True):
                results[i] = output
            if finished:
                finished(places)
        return results


def load_whisper(settings: WhisperSettings, device: torch.device | None = None) -> WhisperRecognizer:
    """The recognizer of `settings`, on `device` (by default the GPU where there is one)."""
    source: dict[str, Any] = {"pretrained_model_name_or_path": settings.model, "revision": settings.revision}
    model: Any = BatchedWhisper.from_pretrained(**source, dtype=weights(settings.dtype))
    return WhisperRecognizer(
        model.to(device or default_device()),
        WhisperFeatureExtractor.from_pretrained(**source),
        WhisperTokenizer.from_pretrained(**source),
        settings.language,
        settings.batch_size,
        settings.dtype,
    )
