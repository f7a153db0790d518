"""Waveform <-> unit tokens: synthesizer, encoder, quantizer, aligner, vocoder and recognizer.

Nothing here knows of experiment grids or language models. `protocols` holds what the other packages rely on; each
module holds one component, with a dict from the names that a configuration may use to classes.
"""
