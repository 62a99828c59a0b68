"""Ithaca trains PyTorch models on a Ray cluster through lost machines, to the same bits."""

from __future__ import annotations

__version__ = "0.1.0"
