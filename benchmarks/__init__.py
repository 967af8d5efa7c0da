"""Measurements of speed against careful references; `python -m benchmarks.run` prints the table."""
