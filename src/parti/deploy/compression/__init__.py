"""Compression of a trained network: pruned, distilled, folded, quantized; each step is measured.

prune.py     fewer channels, by dependency graph, tuned after each cut
distill.py   trained again to give what a better network gives
fold.py      batch norms inside convolutions, and nothing that does nothing
int8.py      8-bit integers in ONNX Runtime, calibrated on training images
plan.py      the steps in order; one that does not pay is undone
versions.py  what a version of the model is worth, and how versions are compared
ship.py      the folder with the compressed model and its predict.py
"""
