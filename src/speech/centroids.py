"""Files of centroids, as numpy saves them. Light."""

from pathlib import Path

import numpy as np
import numpy.typing as npt


def map_centroids(path: Path | str) -> npt.NDArray[np.floating]:
    """Centroids [clusters, dimensions] of a .npy file, mapped into memory: its header alone is read. Raises ValueError
    for a file that holds none."""
    try:
        centroids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"quantizer.centroids is {path}; it must be a .npy file of centroids [clusters, dimensions] ({error})"
        ) from error
    if not isinstance(centroids, np.ndarray):
        raise ValueError(f"quantizer.centroids is {path}; it must be a .npy file, not an .npz archive")
    if centroids.ndim != 2 or not np.issubdtype(centroids.dtype, np.floating):
        found = f"{centroids.dtype} of shape {centroids.shape}"
        right = f"finite centroids [clusters, dimensions], not {found}"
        raise ValueError(f"quantizer.centroids is {path}; it must be {right}")
    return centroids


def load_centroids(path: Path | str) -> npt.NDArray[np.float32]:
    """The same as float32. Raises ValueError, too, where a number is infinite or none."""
    centroids = map_centroids(path)
    if not np.isfinite(centroids).all():
        raise ValueError(f"quantizer.centroids is {path}; it must be finite centroids, and some of its numbers are not")
    return centroids.astype(np.float32)
