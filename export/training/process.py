"""A trainer's process: its standard output, its signals, its random numbers."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import FrameType

import numpy as np


def take_output() -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """Standard output for ourselves: what anybody prints goes to standard error from now on, also from below Python.

    Returns:
        Writes to what was standard output; gives it back.
    """
    sys.stdout.flush()
    taken = os.dup(1)
    os.dup2(2, 1)

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(taken, data) :]

    def restore() -> None:
        sys.stdout.flush()
        os.dup2(taken, 1)
        os.close(taken)

    return write, restore


def on_sigterm(act: Callable[[], None]) -> Callable[[], None]:
    """Let SIGTERM do this. Signals reach the main thread only; elsewhere nothing changes.

    Returns:
        Puts back what it did before.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def handle(number: int, frame: FrameType | None) -> None:
        act()

    before = signal.signal(signal.SIGTERM, handle)

    def restore() -> None:
        signal.signal(signal.SIGTERM, before)

    return restore


def seed_everything(seed: int, libraries: Sequence[str] = ("random", "numpy", "torch")) -> None:
    """Seed the sources of random numbers that are installed; torch is told to prefer deterministic algorithms."""
    if "random" in libraries:
        random.seed(seed)
    if "numpy" in libraries:
        np.random.seed(seed % (1 << 32))
    if "torch" in libraries and find_spec("torch") is not None:
        from export.training.torch_seed import seed_torch

        seed_torch(seed)
