"""Attention of the newest token over all tokens: projected together, or the past ones before."""

from building import network

SIGNATURE = "(float[2,2] past, float[1,2] new) => (float[1,2] y)"
ATTENTION = """
    query = MatMul(new, wq)
    turned = Transpose <perm = [1, 0]> (keys)
    scores = MatMul(query, turned)
    weights = Softmax <axis = 1> (scores)
    y = MatMul(weights, values)
"""
WEIGHTS = {
    "wq": [[0.5, -0.25], [0.75, 0.5]],
    "wk": [[0.25, 0.5], [-0.5, 1.0]],
    "wv": [[1.0, -0.5], [0.25, 0.75]],
}

RIGHT = network(
    SIGNATURE,
    """
    tokens = Concat <axis = 0> (past, new)
    keys = MatMul(tokens, wk)
    values = MatMul(tokens, wv)
    """
    + ATTENTION,
    **WEIGHTS,
)
WRONG = network(
    SIGNATURE,
    """
    oldkeys = MatMul(past, wk) newkey = MatMul(new, wk)
    oldvalues = MatMul(past, wv) newvalue = MatMul(new, wv)
    keys = Concat <axis = 0> (oldkeys, newkey)
    values = Concat <axis = 0> (oldvalues, newvalue)
    """
    + ATTENTION,
    **WEIGHTS,
)
