"""√max(x·y − x·y, tiny) against √(x·y − x·y), each pair of products a row times a column."""

from building import network

SIGNATURE = "(float[2,1] x) => (float[2,2] y)"
DIFFERENCE = """
    rows = Concat <axis = 1> (x, x)
    minus = Neg(x)
    signed = Concat <axis = 1> (x, minus)
    columns = Transpose <perm = [1, 0]> (signed)
    difference = MatMul(rows, columns)
"""

RIGHT = network(
    SIGNATURE, DIFFERENCE + "positive = Max(difference, tiny) y = Sqrt(positive)", tiny=1e-6
)
WRONG = network(SIGNATURE, DIFFERENCE + "y = Sqrt(difference)")
