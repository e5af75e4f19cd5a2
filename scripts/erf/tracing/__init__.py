"""The record of a model's operations, and the part of them that a unit depends on; private."""
