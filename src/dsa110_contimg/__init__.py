"""Continuum imaging backend of the DSA-110: raw UVH5 in, calibrated and measured images out, one API over all of it."""

__version__ = "0.1.0"
