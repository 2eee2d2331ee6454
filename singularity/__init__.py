"""Singularity: everything that makes, moves or explains images. Launching them is the C half, in `launcher/`."""

__version__ = "5.0.0"
