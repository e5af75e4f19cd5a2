"""Private: a model's operations as a graph, and how tensors are cropped to windows."""
