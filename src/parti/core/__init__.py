"""The vocabulary: spaces, architectures, trials, studies, and what may be plugged in.

Nothing here imports torch, and nothing here does any input or output.
"""
