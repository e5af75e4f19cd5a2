"""Models by name, their weights and images, as the command and the pipeline take them."""
