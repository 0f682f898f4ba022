"""Training-free proxies: what an untrained network tells of the accuracy it will reach.

`scoring.score` computes any of them on any network; each proxy is a file, with its paper.
"""
