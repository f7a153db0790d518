"""One thread for numerical work: results do not depend on the number of cores, and steps that run side by side do not
fight for them."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def one_thread(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run `function` with every BLAS and OpenMP pool, and PyTorch where it is loaded, at one thread; restored after."""

    @functools.wraps(function)
    def limited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        torch = sys.modules.get("torch")
        threads = torch.get_num_threads() if torch else 1
        if torch:
            torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                return function(*args, **kwargs)
        finally:
            if torch:
                torch.set_num_threads(threads)

    return limited
