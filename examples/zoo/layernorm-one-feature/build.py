"""The deviation of a masked row by n against n − 1, where one feature is left."""

from building import network


def normalized(count: str):
    return network(
        "(float[1,1] x, float[1,1] valid) => (float[1,1] y)",
        f"""
        n = ReduceSum(valid, axes)
        kept = Mul(x, valid)
        sum = ReduceSum(kept, axes)
        mean = Div(sum, n)
        centred = Sub(x, mean)
        square = Mul(centred, centred)
        squares = ReduceSum(square, axes)
        {count}
        variance = Div(squares, count)
        raised = Add(variance, epsilon)
        deviation = Sqrt(raised)
        y = Div(centred, deviation)
        """,
        axes=[1],
        one=1.0,
        epsilon=1e-2,
    )


RIGHT, WRONG = normalized("count = Identity(n)"), normalized("count = Sub(n, one)")
