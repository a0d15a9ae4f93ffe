"""Cross entropy of three labels, the last one ignored: divided by two against divided by three."""

from building import network


def loss(labels: float):
    return network(
        "(float[3,2] logits) => (float[1,1] loss)",
        """
        logp = LogSoftmax <axis = 1> (logits)
        picked = Mul(logp, chosen)
        sum = ReduceSum (picked)
        loss = Div(sum, labels)
        """,
        chosen=[[-1.0, 0.0], [0.0, -1.0], [0.0, 0.0]],
        labels=labels,
    )


RIGHT, WRONG = loss(2.0), loss(3.0)
