"""Private: the commands of `erf`, one module each, and the arguments that they share."""
