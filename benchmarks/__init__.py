"""Benchmarks: the product beside a bare spawn and its peers, in one run on one machine.

``python -m benchmarks`` prints a table; docs/reference/benchmarks.md says what
each line means. Ratios count: absolute figures belong to the machine.
"""
