"""Linear algebra on one thread: for matrices as small as a reference's, threads cost more than they bring."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with one BLAS thread.

    BLAS threads wait by spinning; on a machine that is busy with something else (serving, other exports) that made the
    out-of-fold fits take five times the CPU and four times the time (2 cores, load 8).
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return run
