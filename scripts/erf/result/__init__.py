"""Private: what a measurement gives, and the numbers read from it; `erf` exports what is public."""
