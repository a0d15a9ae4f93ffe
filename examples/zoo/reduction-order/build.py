"""large − large + small against large + small − large, each a sum from first to last."""

from building import network


def summed(*terms: str):
    return network(
        "(float[1,1] large, float[1,1] minus, float[1,1] small) => (float[1,1] y)",
        f"terms = Concat <axis = 1> ({', '.join(terms)}) y = ReduceSum(terms, axes)",
        axes=[1],
    )


RIGHT, WRONG = summed("large", "minus", "small"), summed("large", "small", "minus")
