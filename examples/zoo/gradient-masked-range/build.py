"""The gradient of where(n < 1/1024, 0, x/n): n made harmless where it is masked, or not."""

from building import network

SIGNATURE = "(float[1,1] x, float[1,1] n) => (float[1,1] y)"
FEW = "few = Less(n, least)"
MASKED = " q = Div(x, {}) y = Where(few, zero, q)"
STORED = {"least": 2.0**-10, "zero": 0.0, "one": 1.0}

RIGHT = network(
    SIGNATURE, FEW + " harmless = Where(few, one, n)" + MASKED.format("harmless"), **STORED
)
WRONG = network(SIGNATURE, FEW + MASKED.format("n"), least=2.0**-10, zero=0.0)
