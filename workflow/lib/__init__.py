"""What the rules call: a configuration and its checks, where files lie, the figures, and what a run makes."""
