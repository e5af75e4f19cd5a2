"""The paper's experiments. They use `erf`, which knows nothing of them."""
