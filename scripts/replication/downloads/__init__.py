"""Datasets: fetched, checked, unpacked."""
