"""Declared preprocessing at export: encoded images beside a model whose own input is a tensor.

`Encoding` joins the two: `wire` is what clients send, `model` what the files compute on, and `wrap` puts the decoder in
front of a runner, so that parity, golden cases and reference all start from the files that clients will send.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.preprocess import ImageDecode, PixelLayout
from export.contracts.signature import InputDisplay, InputKind, InputSpec, Signature
from export.images import decoded_rows, encoded_rows
from export.runners import Runner

Array: TypeAlias = npt.NDArray[Any]
CACHE_BYTES = 512 << 20


class Encoding:
    """A model's signature with declared preprocessing in front.

    Args:
        model: What the model's files compute on.
        preprocess: By input name; empty leaves everything as it is.

    Attributes:
        wire: What clients send.

    Raises:
        PackageError: a declaration for no input, or one that makes another tensor than the model takes.
    """

    def __init__(self, model: Signature, preprocess: Mapping[str, ImageDecode]) -> None:
        names = [spec.name for spec in model.inputs]
        for name in preprocess:
            if name not in names:
                raise PackageError(f"preprocess: there is no input '{name}' (there are: {', '.join(names)})")
        inputs = tuple(
            _encoded(spec, preprocess[spec.name], model.batched) if spec.name in preprocess else spec
            for spec in model.inputs
        )
        self.wire = replace(model, inputs=inputs)
        self._cache: dict[tuple[str, bytes], Array] = {}
        self._cached_bytes = 0

    @property
    def model(self) -> Signature:
        """What the model's files compute on; variable sides are fixed to what is decoded."""
        return self.wire.model

    def wrap(self, runner: Runner) -> Runner:
        """The runner on encoded images. What was decoded is kept for the next one, up to half a gigabyte."""
        if not self.wire.preprocesses:
            return runner
        return lambda arrays: runner(self.tensors(arrays))

    def tensors(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The model's tensors of what a client sends.

        Raises:
            PackageError: an image is refused; the text names the input and the row.
        """
        return {spec.name: self._decoded(spec, arrays[spec.name]) for spec in self.wire.inputs}

    def _decoded(self, spec: InputSpec, array: Array) -> Array:
        if spec.preprocess is None:
            return array
        out = np.empty((array.size, *spec.preprocess.tensor_shape), dtype=spec.preprocess.datatype.numpy)
        for row, data in enumerate(array.reshape(-1)):
            found = self._cache.get((spec.name, data))
            if found is None:
                found = decoded_rows(array.reshape(-1, 1)[row : row + 1], spec.preprocess, spec.name, row)[0]
                if self._cached_bytes + found.nbytes <= CACHE_BYTES:
                    self._cached_bytes += found.nbytes
                    self._cache[spec.name, data] = found
            out[row] = found
        return out.reshape(*array.shape[:-1], *spec.preprocess.tensor_shape)


def model_tensors(signature: Signature, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The model's tensors of what clients send, in one pass; nothing is kept.

    Raises:
        PackageError: an image is refused; the text names the input and the row.
    """
    return {
        spec.name: arrays[spec.name]
        if spec.preprocess is None
        else decoded_rows(arrays[spec.name], spec.preprocess, spec.name)
        for spec in signature.inputs
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineGap:
    """How far declared preprocessing is from another pipeline, in levels of an 8-bit pixel.

    Attributes:
        mean: Mean absolute difference over all elements.
        worst_image: The largest mean of one image.
        worst_row: Which image that is.
        p99: 99 % of the elements differ by less.
    """

    mean: float
    worst_image: float
    worst_row: int
    p99: float


def compare_pipeline(files: Any, tensors: Any, decode: ImageDecode) -> PipelineGap:
    """Hold a declaration against what the training pipeline makes of the same files.

    Two image libraries that do the same differ by half a level or so; a wrong mean, colour order or resize by several.

    Args:
        files: Paths or `bytes`, as `export.images.encoded_rows` takes them.
        tensors: What the other pipeline makes of each, (images, *decode.tensor_shape).
        decode: The declaration.

    Raises:
        PackageError: an image is refused, or the tensors have another shape.

    Example:
        >>> from export.images import ONE_PIXEL, image_input
        >>> compare_pipeline([ONE_PIXEL], np.full((1, 1, 2, 2), 0.5), image_input(2, colour="GREY")).mean.__round__(2)
        0.5
    """
    ours = decoded_rows(encoded_rows(files), decode, "files").astype(np.float64)
    theirs = np.asarray(tensors, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise PackageError(f"the tensors have the shape {list(theirs.shape)}, the declaration makes {list(ours.shape)}")
    levels = np.abs(np.array([decode.scale / s for s in decode.std or (1.0,) * decode.channels]))
    if decode.layout is PixelLayout.CHW:
        levels = levels[:, None, None]
    gap = np.abs(ours - theirs) / (levels if decode.layout is not PixelLayout.HW else levels[0])
    images = gap.reshape(len(gap), -1).mean(axis=1)
    return PipelineGap(
        mean=float(gap.mean()),
        worst_image=float(images.max()),
        worst_row=int(images.argmax()),
        p99=float(np.quantile(gap, 0.99)),
    )


def _encoded(spec: InputSpec, decode: ImageDecode, batched: bool) -> InputSpec:
    """The input as clients send it.

    Raises:
        PackageError: the model takes another tensor than the declaration makes.
    """
    inner = spec.shape[1:] if batched else spec.shape
    shape: tuple[int, ...] = (-1, 1) if batched else (1,)
    if not batched and len(inner) == len(decode.tensor_shape) + 1 and inner[0] == 1:
        inner, shape = inner[1:], (1, 1)
    fits = len(inner) == len(decode.tensor_shape) and all(
        n in (-1, m) for n, m in zip(inner, decode.tensor_shape, strict=True)
    )
    if spec.datatype is not decode.datatype or not fits:
        raise PackageError(
            f"preprocess: input '{spec.name}' is {spec.datatype} {list(spec.shape)}, and the declaration makes "
            f"{decode.datatype} {list(decode.tensor_shape)} of an image"
        )
    display = spec.display if spec.display.kind is InputKind.IMAGE else InputDisplay(kind=InputKind.IMAGE)
    return InputSpec(name=spec.name, datatype=Datatype.BYTES, shape=shape, display=display, preprocess=decode)
