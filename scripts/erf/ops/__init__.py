"""Private: the op rules, which say how each operation maps windows."""
