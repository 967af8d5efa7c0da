"""The vocabulary: frozen types, ports, configuration models, plug-in lookup, errors. No I/O."""

__version__ = "0.1.0"
