"""Two scores, x and ¾·x; the first is 2²⁴·x + x − 2²⁴·x, or has its large terms side by side."""

from building import network


def scored(*terms: str):
    return network(
        "(float[1,1] x) => (float[1,2] scores)",
        f"""large = Mul(x, many) minus = Neg(large)
        terms = Concat <axis = 1> ({", ".join(terms)}) first = ReduceSum(terms, axes)
        second = Mul(x, part) scores = Concat <axis = 1> (first, second)""",
        axes=[1],
        many=[2.0**24],
        part=[0.75],
    )


RIGHT, WRONG = scored("large", "minus", "x"), scored("large", "x", "minus")
