"""Units of features: the nearest centroid of each frame."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from src.speech.batches import default_device

CHUNK = 4096
"""Frames whose distances to all centroids are in memory at once: 164 MB for 10,000 centroids."""


class NearestCentroid:
    """Centroids [clusters, dimensions] on a device; distances are float32, whatever the features are."""

    def __init__(self, centroids: npt.NDArray[np.float32], device: torch.device | None = None) -> None:
        self.clusters, self.dimensions = centroids.shape
        self._centroids = torch.from_numpy(centroids).to(device or default_device())
        self._squares = (self._centroids**2).sum(dim=1)

    @torch.inference_mode()
    def __call__(self, features: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The unit of each frame of features [frames, dimensions]; of equally near centroids the first. Raises
        ValueError for features of other dimensions."""
        frames = torch.as_tensor(features).to(self._centroids)
        if frames.ndim != 2 or frames.shape[1] != self.dimensions:
            shape = tuple(frames.shape)
            raise ValueError(f"features of shape {shape} do not fit centroids of {self.dimensions} dimensions")
        nearest = [
            # |x - c|^2 without |x|^2, which is the same for all centroids.
            (self._squares - 2 * chunk @ self._centroids.T).argmin(dim=1)
            for chunk in frames.split(CHUNK)
        ]
        return torch.cat(nearest).cpu().numpy()
