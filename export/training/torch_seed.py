"""PyTorch's random numbers and algorithms, made repeatable."""

from __future__ import annotations

import torch


def seed_torch(seed: int) -> None:
    """Seed all of its generators, and prefer algorithms that give the same result each time.

    Operations that have no such algorithm warn. cuBLAS also needs `CUBLAS_WORKSPACE_CONFIG=:4096:8` in the environment
    (PyTorch documentation, "Reproducibility").
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
