"""Models of transformers, whole or not at all: what a checkpoint lacks, transformers fills with random numbers."""

import pickle
from pathlib import Path
from typing import Any


def read_model(kind: Any, folder: Path | str, setting: str, source: str, **options: Any) -> Any:
    """The model of the class `kind` in `folder`, which `setting` names as `source`.

    options: of from_pretrained. Raises ValueError, one line, for files that are damaged, and for weights that are
    missing or of another shape than config.json says.
    """
    try:
        model, told = kind.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # of whatever library reads the files
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{setting} = {source}: cannot be read, as if damaged or cut short ({type(error).__name__}: {first})"
        ) from error
    learned = {name for name, _ in model.named_parameters()}
    shapes = sorted(name for name, *_ in told["mismatched_keys"])
    for names, what in ((sorted(learned & set(told["missing_keys"])), "has no"), (shapes, "has in another shape")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(
                f"{setting} = {source}: {what} {names[0]}{more} among its weights, which the {kind.__name__} of its "
                "config.json needs"
            )
    return model
