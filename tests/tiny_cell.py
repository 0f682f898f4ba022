"""A user's own cell space, in a file: NAS-Bench-201's cell in the smallest network."""

from parti.spaces.nasbench201 import nasbench201

tiny_cell = nasbench201(channels=4, cells=1)
