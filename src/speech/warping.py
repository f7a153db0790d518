"""Dynamic time warping, compiled: the GPU waits for the word times of each text.

The same sums in the same order as transformers' Python function for Whisper, so that the path is the same.
"""

import numba
import numpy as np
import numpy.typing as npt


def warp(costs: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The cheapest monotonic path through costs [tokens, frames]: its tokens and its frames, step by step."""
    path = _path(costs)
    return path[:, 0], path[:, 1]


@numba.njit
def _path(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The path [steps, 2] from the first token and frame to the last."""
    tokens, frames = costs.shape
    total = np.full((tokens + 1, frames + 1), np.inf, np.float32)
    trace = np.full((tokens + 1, frames + 1), 2, np.int8)  # 0: both go on, 1: the token, 2: the frame
    trace[:, 0] = 1
    total[0, 0] = 0
    for j in range(1, frames + 1):
        for i in range(1, tokens + 1):
            both, token, frame = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            if both < token and both < frame:
                total[i, j] = costs[i - 1, j - 1] + both
                trace[i, j] = 0
            elif token < both and token < frame:
                total[i, j] = costs[i - 1, j - 1] + token
                trace[i, j] = 1
            else:
                total[i, j] = costs[i - 1, j - 1] + frame
    path = np.empty((tokens + frames, 2), np.int64)
    i, j, length = tokens, frames, 0
    while i > 0 or j > 0:
        length += 1
        path[-length] = i - 1, j - 1
        went = trace[i, j]
        i -= went != 2
        j -= went != 1
    return path[len(path) - length :]
