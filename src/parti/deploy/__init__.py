"""Trained networks as models: with their normalisation, exported, checked, ready to use."""
