"""Private: uses of the measurement: the layers that can be measured, a training that is watched, inference in tiles."""
