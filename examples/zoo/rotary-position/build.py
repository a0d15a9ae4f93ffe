"""The score of a query at position 3 and a key at position 1, against the query at position 4.

A position is a quarter turn, which floats hold exactly.
"""

import numpy as np
from building import network

QUARTER = np.array([[0.0, 1.0], [-1.0, 0.0]], np.float32)


def score(query: int, key: int):
    return network(
        "(float[1,2] query, float[1,2] key) => (float[1,1] score)",
        """
        q = MatMul(query, atquery)
        k = MatMul(key, atkey)
        turned = Transpose <perm = [1, 0]> (k)
        score = MatMul(q, turned)
        """,
        atquery=np.linalg.matrix_power(QUARTER, query),
        atkey=np.linalg.matrix_power(QUARTER, key),
    )


RIGHT, WRONG = score(3, 1), score(4, 1)
