"""Private: how a model becomes a graph, and which part of it a unit depends on."""
