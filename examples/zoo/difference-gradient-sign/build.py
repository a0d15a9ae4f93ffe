"""The gradients of (prediction − target)² by both: of opposite signs, or of the same."""

from building import network


def gradients(by_target: str):
    return network(
        "(float[1,2] prediction, float[1,2] target) => (float[1,2] first, float[1,2] second)",
        f"apart = Sub(prediction, target) first = Mul(apart, two) second = {by_target}",
        two=2.0,
    )


RIGHT, WRONG = gradients("Neg(first)"), gradients("Identity(first)")
