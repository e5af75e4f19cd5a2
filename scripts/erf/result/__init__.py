"""What a measurement is, and the numbers read from it."""
