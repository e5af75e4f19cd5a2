"""How each operation maps windows; private."""
