"""Casts to float16: of float32, once, against of float64 by way of float32."""

from building import network

RIGHT = network("(float[1] x) => (float16[1] y)", "y = Cast <to = 10> (x)")
WRONG = network(
    "(double[1] x) => (float16[1] y)", "single = Cast <to = 1> (x) y = Cast <to = 10> (single)"
)
