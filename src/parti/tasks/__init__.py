"""Tasks: what is learnt, from which data, and how results are judged."""
