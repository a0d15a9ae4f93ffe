"""The gradient of where(n = 0, 0, x/n) by x: the divisor made harmless, or the cotangent alone.

n holds a 0, as the report has it, and a number that is none.
"""

from building import network

SIGNATURE = "(float[1,2] upstream, float[1,1] count) => (float[1,2] gradient)"
MASKED = """
    n = Concat <axis = 1> (none, count)
    empty = Equal(n, zero)
    arrived = Where(empty, zero, upstream)
"""

RIGHT = network(
    SIGNATURE,
    MASKED + "harmless = Where(empty, one, n) gradient = Div(arrived, harmless)",
    none=[[0.0]],
    zero=0.0,
    one=1.0,
)
WRONG = network(SIGNATURE, MASKED + "gradient = Div(arrived, n)", none=[[0.0]], zero=0.0)
