"""The demo's data and shifts: nothing leaks between the parts, and shifts are pure, seeded and really harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.digits import REFERENCE, TRAIN, load_digits
from deploy.demo.shifts import Shift, apply


def test_the_three_parts_are_all_of_the_data_and_share_no_position():
    digits = load_digits()
    sizes = [len(part.labels) for part in (digits.train, digits.reference, digits.live)]
    assert sizes == [TRAIN, REFERENCE, 797]
    for part in (digits.train, digits.reference, digits.live):
        assert part.images.shape == (len(part.labels), 1, 8, 8)
        assert part.images.dtype == np.float32
        assert 0.0 <= part.images.min() < part.images.max() <= 1.0
        assert set(part.labels) == set(range(10))
    seen = {image.tobytes() for image in digits.train.images}
    again = sum(image.tobytes() in seen for image in digits.live.images)
    assert again == 0, "scikit-learn's digits hold no exact duplicates, so none may cross"


def test_the_parts_are_the_same_in_every_call():
    np.testing.assert_array_equal(load_digits().live.images, load_digits().live.images)


@pytest.mark.parametrize("shift", list(Shift))
def test_a_shift_is_pure_seeded_and_keeps_shape_and_range(shift: Shift):
    images = load_digits().live.images[:20]
    before = images.copy()
    first, second = apply(shift, images, seed=3), apply(shift, images, seed=3)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(first, second)
    assert first.shape == images.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert (shift is Shift.NONE) == np.array_equal(first, images)
    if shift in (Shift.ROTATION, Shift.NOISE):
        assert not np.array_equal(first, apply(shift, images, seed=4))


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_any_seed_and_any_number_of_images_will_do(seed: int, count: int):
    images = np.linspace(0, 1, count * 64, dtype=np.float32).reshape(count, 1, 8, 8)
    for shift in Shift:
        assert apply(shift, images, seed).shape == images.shape


def test_inversion_twice_is_nothing_and_a_quarter_turn_is_exact():
    from deploy.demo.shifts import rotate

    images = load_digits().live.images[:5]
    twice = apply(Shift.INVERSION, apply(Shift.INVERSION, images, 0), 0)
    np.testing.assert_allclose(twice, images, atol=1e-6)
    turned = rotate(images, np.random.default_rng(0), degrees=90, spread=0)
    np.testing.assert_allclose(turned, np.rot90(images, k=1, axes=(2, 3)), atol=1e-5)


def test_shifts_harm_the_trained_network_and_brightness_does_not():
    import torch

    from deploy.demo.network import train_network

    digits = load_digits()
    network = train_network(digits.train, seed=4)

    def accuracy(shift: Shift) -> float:
        with torch.no_grad():
            logits = network(torch.from_numpy(apply(shift, digits.live.images, seed=2)))[0]
        return float((logits.argmax(1).numpy() == digits.live.labels).mean())

    measured = {shift: accuracy(shift) for shift in Shift}
    assert measured[Shift.NONE] > 0.94
    assert measured[Shift.BRIGHTNESS] > 0.93
    assert max(measured[s] for s in (Shift.ROTATION, Shift.NOISE, Shift.BLUR, Shift.INVERSION)) < 0.85
    assert np.mean([measured[s] for s in (Shift.ROTATION, Shift.NOISE, Shift.BLUR, Shift.INVERSION)]) < 0.6


def test_training_is_deterministic():
    import torch

    from deploy.demo.network import train_network

    part = load_digits().train
    first, second = (train_network(part, seed=9, epochs=1).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
