"""The matrix products with a model's weights: their shapes, and their operations per token."""


def products(task: str, config: dict) -> list[tuple[int, int, int]]:
    """`(inputs, outputs, count)` of every weight of a BERT that each token is multiplied with."""
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    shapes = [
        (hidden, 3 * hidden, layers),  # query, key and value at once
        (hidden, hidden, layers),
        (hidden, inner, layers),
        (inner, hidden, layers),
    ]
    if task == "sparse":
        shapes += [(hidden, hidden, 1), (hidden, config["vocab_size"], 1)]
    return shapes


def flop_per_token(task: str, config: dict) -> int:
    """A multiplication and an addition for each element of each weight, without the products inside attention."""
    return sum(2 * inputs * outputs * count for inputs, outputs, count in products(task, config))
