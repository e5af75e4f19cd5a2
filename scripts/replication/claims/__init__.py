"""Claims of the paper, their measures, and their verdicts."""
