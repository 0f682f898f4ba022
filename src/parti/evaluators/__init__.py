"""Evaluators measure an architecture: in theory, on the clock, and by training."""
