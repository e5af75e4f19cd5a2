"""Trained networks: snapshots and tables."""
