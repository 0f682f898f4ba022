"""What a finished search teaches: which decisions matter, what it traded, and what to do next.

One method, one file. Everything is computed from a study, its trials and the result; nothing is
trained. `importance` and `neighbours` share one forest, `forest`, over the decisions, `decisions`.
"""
