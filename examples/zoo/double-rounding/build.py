"""A Cast to float16 against a Cast to float32 and then to float16."""

from building import network

SIGNATURE = "(double[1] x) => (float16[1] y)"

RIGHT = network(SIGNATURE, "y = Cast <to = 10> (x)")
WRONG = network(SIGNATURE, "single = Cast <to = 1> (x) y = Cast <to = 10> (single)")
