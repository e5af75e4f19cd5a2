"""Untrained networks, and what theory says of them."""
