"""The datasets: what each is, its task, and the network that learns it."""
