"""The proved reference for float32 functions, against balls number by number."""

from __future__ import annotations

import flint
import numpy as np
import pytest

from encoders.functions.log import LOG
from gpu_check.probe.function_probe import measured_call
from gpu_check.probe.reference import CURVES, RSQRT, SEGMENT, SQRT, Curve, enclosed

EVERY: dict[str, Curve] = {**{f.name: c for f, c in CURVES.items()}, "sqrt": SQRT, "rsqrt": RSQRT}
# leading 16 bits: subnormal, tiny, around 1, large, at the edge of overflow and of underflow
LEADING = (
    0x0001, 0x0080, 0x2F00, 0x3C80, 0x3F7F, 0x3F80, 0x40A0, 0x42B1, 0x6000,
    0x8001, 0xBC80, 0xBF80, 0xC0A0, 0xC2AE, 0xC2CF,
)  # fmt: skip


def segment(leading: int) -> np.ndarray:
    return (np.arange(SEGMENT, dtype=np.uint32) + np.uint32(leading << 16)).view(np.float32)


@pytest.mark.parametrize("name", EVERY)
def test_the_real_value_is_where_it_is_said_to_be(name: str) -> None:
    curve, rng = EVERY[name], np.random.default_rng(1)
    judged = 0
    for leading in LEADING:
        x = segment(leading)
        values, errors = enclosed(curve, x)
        for i in (0, SEGMENT - 1, *rng.integers(0, SEGMENT, 12)):
            with flint.ctx.workprec(400):
                exact = curve.ball(flint.arb(float(x[i])))
                if not exact.is_finite():
                    assert np.isnan(values[i])
                elif np.isinf(values[i]):
                    assert abs(exact) > 2.0**128
                else:
                    distance = abs(exact - flint.arb(float(values[i])))
                    assert distance <= flint.arb(float(errors[i]))
                    judged += 1
        small = np.isfinite(values) & (np.abs(values) < 2.0**128)
        spacing = np.ldexp(1.0, np.maximum(np.frexp(values[small])[1] - 1, -126) - 23)
        assert np.all(errors[small] < 0.003 * spacing)
    assert judged > 80


def test_a_segment_with_a_pole_is_done_one_by_one() -> None:
    x = segment(0)
    for curve in (CURVES[LOG], RSQRT):
        values, errors = enclosed(curve, x)
        assert np.isnan(values[0])
        assert np.all(errors[1:] < 1e-13 * np.abs(values[1:]))
    np.testing.assert_allclose(values[1:], x[1:].astype(np.float64) ** -0.5, rtol=1e-13)


def test_a_zero_is_exact() -> None:
    values, errors = enclosed(CURVES[LOG], segment(0x3F80))
    assert values[0] == errors[0] == 0.0
    assert np.all(errors[1:] < 0.003 * np.spacing(values[1:].astype(np.float32)))


def test_a_call_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four segments stand for all numbers: correct rounding is half an ulp, truncation a whole."""
    chunk = np.concatenate([segment(k) for k in (0x3F80, 0x3F81, 0x4000, 0x40FF)])
    monkeypatch.setattr("gpu_check.probe.function_probe._every_input", lambda dtype: iter([chunk]))
    assert measured_call(np.sqrt, SQRT).ulps == pytest.approx(0.5, abs=1e-6)
    down = measured_call(lambda x: np.nextafter(np.sqrt(x), np.float32(0)), SQRT)
    assert down.ulps == pytest.approx(1.5, abs=1e-6)
    assert down.inputs == len(chunk) + 19
