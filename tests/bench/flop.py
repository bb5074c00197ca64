"""The matrix products with a model's weights: their shapes, and the operations they take for a token."""


def products(task: str, config: dict) -> list[tuple[int, int, int]]:
    """`(inputs, outputs, how many)` of every weight that each token of a BERT goes through."""
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
    """A multiplication and an addition for each element of each weight; attention's own products are left out."""
    return sum(2 * inputs * outputs * times for inputs, outputs, times in products(task, config))
