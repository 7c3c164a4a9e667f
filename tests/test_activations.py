import math

import numpy as np
import pytest

from lstmbook.cells._activations import sigmoid


def test_sigmoid_is_the_logistic_function():
    z = np.linspace(-40, 40, 1601)
    expected = [1 / (1 + math.exp(-v)) for v in z]
    np.testing.assert_allclose(sigmoid(z), expected, rtol=0, atol=2.3e-16)


def test_sigmoid_does_not_overflow():
    big = np.array([-1e308, -1e4, 1e4, 1e308])
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(sigmoid(big), [0, 0, 1, 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex128])
def test_sigmoid_keeps_the_dtype(dtype):
    assert sigmoid(np.ones(3, dtype)).dtype == dtype


def test_sigmoid_has_a_complex_step_derivative():
    z = np.linspace(-5, 5, 41)
    s = sigmoid(z)
    slope = sigmoid(z + 1e-30j).imag / 1e-30
    np.testing.assert_allclose(slope, s * (1 - s), rtol=0, atol=1e-15)
