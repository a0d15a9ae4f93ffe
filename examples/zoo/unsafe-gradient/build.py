"""where(a ≤ 0, exp a, 1 + a), whose gradient is asked for: with exp of min(a, 0), or of a."""

from building import network

SIGNATURE = "(float[1,1] a) => (float[1,1] y)"
CHOICE = " left = LessOrEqual(a, zero) line = Add(a, one) y = Where(left, power, line)"

RIGHT = network(SIGNATURE, "below = Min(a, zero) power = Exp(below)" + CHOICE, zero=0.0, one=1.0)
WRONG = network(SIGNATURE, "power = Exp(a)" + CHOICE, zero=0.0, one=1.0)
