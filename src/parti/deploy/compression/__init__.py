"""Compression of a trained network: pruned, distilled, folded, quantized; each step is measured.

prune.py     fewer channels, by dependency graph, tuned after each cut
distill.py   trained again to give what a better network gives
fold.py      batch norms inside convolutions, and nothing that does nothing
int8.py      8-bit integers in ONNX Runtime, calibrated on training images
lean.py      what has no effect on the outputs is removed, before pruning and folding
steps.py     each of these as a step from one version to the next
kept.py      what a call that was stopped goes on from
plan.py      the steps in order; one that does not pay is undone
versions.py  what a version of the model is worth, and how versions are compared
ship.py      the folder with the compressed model and its predict.py
"""
