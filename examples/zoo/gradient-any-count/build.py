"""The gradient of where(n = 0, 0, x/n) for n of both signs: n made harmless at 0, or not."""

from building import network

SIGNATURE = "(float[1,2] x, float[1,2] n) => (float[1,2] y)"
EMPTY = "empty = Equal(n, zero)"
MASKED = " q = Div(x, {}) y = Where(empty, zero, q)"

RIGHT = network(
    SIGNATURE,
    EMPTY + " harmless = Where(empty, one, n)" + MASKED.format("harmless"),
    zero=0.0,
    one=1.0,
)
WRONG = network(SIGNATURE, EMPTY + MASKED.format("n"), zero=0.0)
