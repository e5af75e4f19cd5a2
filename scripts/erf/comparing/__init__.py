"""Private: other ways to say how far a unit sees, published conventions and noise, to be held against the map."""
