"""Measuring units of a model; private but for what `erf` exports."""
