"""What Hydra and OmegaConf say of wrong overrides, as one line that names the setting and what would be right."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.grid.errors import ConfigError
from src.grid.typed import unknown

CONF = Path(__file__).resolve().parents[1] / "conf"
FOUND = re.compile(
    r"Could not find '([^']+)'\s*Available options in '([^']+)':\s*(.*?)(?:Config search path|$)", re.DOTALL
)
NO_SETTING = re.compile(r"Could not (?:override|delete from config\.) *'([^'=]+)'")
THERE = re.compile(r"Could not append to config\. An item is already at '([^']+)'")
SEVERAL = re.compile(r"Ambiguous value for argument '(.+?)'", re.DOTALL)


def one_line(error: Exception, overrides: Sequence[str], settings: Callable[[str], Mapping[str, Any]]) -> str | None:
    """The line; None for an error that is of another kind.

    overrides: those of the command. settings: tells those that there are, given the name of one that is not.
    """
    if isinstance(error, ConfigError):
        return str(error)
    text = str(error)
    if text.startswith("Config group override must be"):
        return _no_name(overrides)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {error.message.splitlines()[0]}; a value with special characters stands in quotes"
    if found := FOUND.search(text):
        wrong, names = found[1].rpartition("/")[2], ", ".join(found[3].split())
        return f"{found[2]}={wrong}: there is no {found[1]}; there are {names}"
    if found := SEVERAL.search(text):
        return f"{found[1]}: several values need -m before them; a list stands in brackets"
    if found := THERE.search(text):
        return f"+{found[1]}: the setting is there already; write it without +"
    if found := NO_SETTING.search(text):
        if found[1].startswith("hydra.launcher.resources."):
            return f"{found[1]}: the launcher's file does not have it; +{found[1]}=.. adds it"
        return unknown(found[1], settings(found[1]))
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {text.splitlines()[0]}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("See https://")]
    return " ".join(lines) or type(error).__name__


def _no_name(overrides: Sequence[str]) -> str:
    """The line for the first override that gives a group something else than a name."""
    for each in overrides:
        key, _, value = each.lstrip("+~").partition("=")
        files = sorted((CONF / key).glob("*.yaml")) if key else []
        if (files or not key) and value not in [file.stem for file in files]:
            return f"{each}: a setting has a name" if not key else f"{each}: give one of {_stems(files)}"
    return "an override gives a group of settings something else than a name"


def _stems(files: Sequence[Path]) -> str:
    return ", ".join(file.stem for file in files)


def settings_without(overrides: Sequence[str], wrong: str) -> Mapping[str, Any]:
    """The settings that there are, with the overrides but for those of the setting that does not exist and those with
    several values; with none of them if that does not go. Ends what Hydra has begun."""
    kept = []
    for each in overrides:
        try:
            parsed = OverridesParser.create().parse_override(each)
        except HydraException:
            continue
        if parsed.get_key_element().lstrip("~+").partition("@")[0] != wrong and not parsed.is_sweep_override():
            kept.append(each)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        load = partial(compose, "config", return_hydra_config=wrong.startswith("hydra."))
        for given in (kept, []):
            try:
                found: Any = OmegaConf.to_container(load(overrides=given), resolve=False)
            except (HydraException, OmegaConfBaseException):
                continue
            return dict(found)
    return {}
