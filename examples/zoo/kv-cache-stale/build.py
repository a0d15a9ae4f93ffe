"""Attention over a cache with the new token in its place, and one place too early."""

from building import network


def attention(keys: str, values: str):
    return network(
        "(float[2,2] past, float[1,2] new) => (float[1,2] y)",
        f"""
        oldkeys = MatMul(past, wk) newkey = MatMul(new, wk)
        oldvalues = MatMul(past, wv) newvalue = MatMul(new, wv)
        firstkey = Slice(oldkeys, zero, one, zero)
        firstvalue = Slice(oldvalues, zero, one, zero)
        keys = Concat <axis = 0> ({keys})
        values = Concat <axis = 0> ({values})
        query = MatMul(new, wq)
        turned = Transpose <perm = [1, 0]> (keys)
        scores = MatMul(query, turned)
        weights = Softmax <axis = 1> (scores)
        y = MatMul(weights, values)
        """,
        wq=[[0.5, -0.25], [0.75, 0.5]],
        wk=[[0.25, 0.5], [-0.5, 1.0]],
        wv=[[1.0, -0.5], [0.25, 0.75]],
        fresh=[[0.0, 0.0]],
        zero=[0],
        one=[1],
    )


RIGHT = attention("oldkeys, newkey", "oldvalues, newvalue")
WRONG = attention("firstkey, newkey, fresh", "firstvalue, newvalue, fresh")
