"""Measurements of speed against careful references; `python -m benchmarks.run` prints the table."""

import os

# As the daemon has it (daemon/__main__.py): small matrix products cost more when handed to other threads. Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
