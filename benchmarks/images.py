"""What encoded images cost: `python -m benchmarks.images` (`--quick`).

Processor time to make a 224 x 224 float tensor of real photographs (scikit-learn's two, tiled for large ones), by
format and size, beside plain Pillow; how far a JPEG that is decoded smaller departs from one that is decoded whole; and
how rates grow with threads. All but the threads are processor time, so other load disturbs them little.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import machine_facts
from export.contracts.imagefile import examine
from export.contracts.imagepixels import decode_image, preview
from export.images import IMAGENET_MEAN, IMAGENET_STD, image_input
from serving.preprocess import Team

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "images.json"
DECODE = image_input(224, values="imagenet", resize="shorter_side", shorter_side=256)
PACKAGES = ("pillow", "numpy")
LIMIT = 25_000_000


def photos() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Two real photographs, (427, 640, 3)."""
    from sklearn.datasets import load_sample_image

    return [np.asarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def encoded(pixels: Any, fmt: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **how)
    return buffer.getvalue()


def cpu_ms(call: Callable[[], object], seconds: float) -> float:
    """Least processor time of a call in milliseconds, of as many as fit into `seconds`."""
    best, until = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < until:
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return best * 1e3


def plain_pillow(data: bytes) -> object:
    """The same tensor as people usually make it: no limits, no orientation, no transparency."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    short = 256 / min(width, height)
    image = image.resize((int(width * short), int(height * short)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    return np.ascontiguousarray(((pixels - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)).transpose(2, 0, 1))


def files() -> dict[str, bytes]:
    """By what they are."""
    photo = photos()[0]
    small = np.asarray(Image.fromarray(photo).resize((224, 224), Image.Resampling.LANCZOS))
    large = np.tile(photo, (7, 6, 1))  # 2989 x 3840: 11.5 million pixels
    return {
        "JPEG 224x224": encoded(small, "JPEG", quality=90),
        "JPEG 640x427": encoded(photo, "JPEG", quality=90),
        "JPEG 640x427 progressive": encoded(photo, "JPEG", quality=90, progressive=True),
        "PNG 640x427": encoded(photo, "PNG"),
        "WebP 640x427": encoded(photo, "WEBP", quality=85),
        "JPEG 3840x2989": encoded(large, "JPEG", quality=90),
    }


def costs(seconds: float) -> list[dict[str, object]]:
    """Processor time by file."""
    rows: list[dict[str, object]] = []
    for name, data in files().items():
        ours = cpu_ms(lambda data=data: decode_image(data, DECODE), seconds)  # type: ignore[misc]
        row: dict[str, object] = {
            "file": name,
            "kib": round(len(data) / 1024, 1),
            "ms": round(ours, 3),
            "images_per_s_and_core": round(1e3 / ours),
            "whole_ms": round(cpu_ms(lambda d=data: decode_image(d, replace(DECODE, jpeg_gap=0.0)), seconds), 3),  # type: ignore[misc]
            "plain_pillow_ms": round(cpu_ms(lambda d=data: plain_pillow(d), seconds), 3),  # type: ignore[misc]
            "walk_us": round(cpu_ms(lambda d=data: examine(d, LIMIT), seconds) * 1e3, 1),  # type: ignore[misc]
            "preview_ms": round(cpu_ms(lambda d=data: preview(d, 128, LIMIT), seconds), 3),  # type: ignore[misc]
        }
        rows.append(row)
    return rows


def gaps(seconds: float) -> list[dict[str, object]]:
    """By `jpeg_gap`: departure from decoding whole, in 8-bit levels, over sizes and photographs; and the time."""
    raw = image_input(224, values="raw", resize="shorter_side", shorter_side=256)
    large = [np.tile(photo, (7, 6, 1)) for photo in photos()]
    sources = [encoded(photo[: 427 * n, : 640 * n], "JPEG", quality=90) for photo in large for n in (2, 3, 4, 6)]
    whole = [decode_image(data, replace(raw, jpeg_gap=0.0)) for data in sources]
    rows: list[dict[str, object]] = []
    for gap in (1.0, 1.5, 2.0, 3.0, 4.0, 0.0):
        decode = replace(raw, jpeg_gap=gap)
        differences = [np.abs(decode_image(d, decode) - w) for d, w in zip(sources, whole, strict=True)]
        rows.append(
            {
                "jpeg_gap": gap,
                "mean_levels": round(float(np.mean([d.mean() for d in differences])), 3),
                "worst_mean_levels": round(float(max(d.mean() for d in differences)), 3),
                "p99_levels": round(float(np.mean([np.quantile(d, 0.99) for d in differences])), 2),
                "ms_at_3840x2562": round(cpu_ms(lambda d=decode: decode_image(sources[3], d), seconds), 2),  # type: ignore[misc]
            }
        )
    return rows


def threads(seconds: float) -> list[dict[str, object]]:
    """Images a second of a batch of 64, by threads: wall-clock time, for a quiet machine."""
    data = files()["JPEG 640x427"]
    out = np.empty((64, *DECODE.tensor_shape), np.float32)
    rows: list[dict[str, object]] = []
    for size in (1, 2, 4):
        team, best = Team(size), 0.0
        until = time.perf_counter() + 3 * seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            team.run(lambda row: decode_image(data, DECODE, out[row]), 64)
            best = max(best, 64 / (time.perf_counter() - started))
        team.close()
        rows.append({"threads": size, "images_per_s": round(best)})
    return rows


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds; writes nothing")
    quick = parser.parse_args().quick
    seconds = 0.05 if quick else 1.0
    facts = machine_facts(ROOT, PACKAGES)
    result = {"machine": facts, "costs": costs(seconds), "gaps": gaps(seconds), "threads": threads(seconds)}
    print(json.dumps(result, indent=2))
    if not quick:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
