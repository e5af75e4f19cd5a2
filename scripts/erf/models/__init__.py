"""Private: models by name, with their weights and images, for the command `erf` and the pipeline."""
