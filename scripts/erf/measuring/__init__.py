"""Private: how units of a model are measured; `erf` exports what is public."""
