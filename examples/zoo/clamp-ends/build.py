"""The gradient of clamp(x, −1, 1) at its ends: 1, or 0."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,1] x) => (float[1,1] gradient)"


def gradient(below: str, above: str):
    return network(
        SIGNATURE,
        f"""
        over = {above}(x, low)
        under = {below}(x, high)
        inside = And(over, under)
        gradient = Where(inside, upstream, zero)
        """,
        low=-1.0,
        high=1.0,
        zero=0.0,
    )


RIGHT, WRONG = gradient("LessOrEqual", "GreaterOrEqual"), gradient("Less", "Greater")
