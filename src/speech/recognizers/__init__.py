"""Recognizers that are fitted here, one a file: a subclass of RecognizerConfig with the settings of the recognizer."""
