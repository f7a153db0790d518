"""How Hydra reads a file of settings: with a byte order mark as without, and what is wrong with it in one line.

Hydra takes the first class that is registered for files, so this module is imported before Hydra looks for its own.
"""

import io
from pathlib import Path

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from src.grid.errors import ConfigError


class FileConfigSource(file_config_source.FileConfigSource):
    """The folders of settings in Hydra's search path. It has the name of the class that it stands for."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The settings in a file. Raises ConfigError, which names file and line, for what is no YAML in UTF-8."""
        file = Path(self.path, self._normalize_file_name(config_path))
        if not file.is_file():
            return super().load_config(config_path)  # Hydra says what there is
        try:
            text = file.read_text(encoding="utf-8-sig")
            settings = OmegaConf.load(io.StringIO(text))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigError(f"{file}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            hint = "; YAML indents by spaces alone" if "'\\t'" in str(error.problem) else ""
            raise ConfigError(f"{file}, line {line}: {error.problem}{hint}") from None
        except (yaml.YAMLError, OSError) as error:  # a character that YAML does not have; a lone number
            raise ConfigError(f"{file} holds no settings: {str(error).splitlines()[0]}") from None
        return ConfigResult(
            config=settings,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=self._get_header_dict(text[:512]),
        )


SourcesRegistry.instance().register(FileConfigSource)
