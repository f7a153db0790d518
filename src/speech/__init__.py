"""Waveform <-> unit tokens: synthesizer, encoder, quantizer, aligner, vocoder and recognizer.

Nothing here knows of experiment grids or language models. `protocols` holds what the other packages rely on; each
module holds one component. Those of the laptop are fitted by steps of the plan, and chosen by name from a dict in their
module; published ones (`pretrained` has their settings) are copied by `fetch`, and `utterances` and `gather` make units
with them. `load` opens either kind.
"""
