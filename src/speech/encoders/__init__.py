"""Encoders that are fitted here, one a file: a subclass of QuantizerConfig with the settings of the encoder."""
