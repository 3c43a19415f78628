"""Rows and labels from files that people have: NumPy's arrays, folders of images, text with one label a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deploy.errors import UsageError
from export.contracts.arrays import load_npz
from export.contracts.preprocess import ImageDecode

Array: TypeAlias = npt.NDArray[Any]
MAX_IMAGES = 1000  # files of a folder that are used: golden cases and parity need no more


def read_samples(path: Path) -> dict[str, Array] | Array:
    """Arrays by input name, or the one array of a model with one input.

    Raises:
        UsageError: not a file of plain arrays.
    """
    if path.suffix == ".npy":
        return _npy(path, "--samples")
    if path.suffix != ".npz":
        raise UsageError(f"--samples: '{path.name}' is neither .npz nor .npy")
    try:
        return load_npz(path)
    except ValueError as error:
        raise UsageError(f"--samples: {error}") from None


def read_images(folder: Path, declared: Mapping[str, ImageDecode]) -> dict[str, list[Path]]:
    """The image files of a folder, by name, as rows of the one encoded input.

    Raises:
        UsageError: no folder, no files, or not one encoded input.
    """
    if len(declared) != 1:
        raise UsageError("--images is for a model with one encoded input: declare it with --preprocess")
    if not folder.is_dir():
        raise UsageError(f"--images: '{folder.name}' is no folder")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise UsageError(f"--images: '{folder.name}' holds no files")
    return {next(iter(declared)): files[:MAX_IMAGES]}


def read_labels(path: Path) -> Array | list[Any]:
    """Labels: class indices or names, or numbers. Text is taken as numbers where every line is one.

    A `.json` file holds a list with one entry a row: lists of labels, of numbers, or of boxes.

    Raises:
        UsageError: not readable, or empty.
    """
    if path.suffix == ".npy":
        return _npy(path, "--labels")
    if path.suffix == ".json":
        return _json(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--labels: not a readable text file ({type(error).__name__})") from None
    if not lines:
        raise UsageError("--labels: the file is empty")
    for kind in (np.int64, np.float64):
        try:
            return np.array(lines).astype(kind)
        except ValueError:
            continue
    return lines


def _json(path: Path) -> list[Any]:
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--labels: not a readable JSON file ({type(error).__name__})") from None
    if not isinstance(plain, list) or not plain:
        raise UsageError("--labels: a JSON file must hold a list with one entry a row")
    return plain


def _npy(path: Path, option: str) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{option}: not a readable array file ({type(error).__name__})") from None
    return array
