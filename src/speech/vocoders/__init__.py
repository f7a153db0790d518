"""Vocoders that are fitted here, one a file: a subclass of VocoderConfig with the settings of the vocoder."""
