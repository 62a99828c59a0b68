"""Drills: a job run twice, once with faults on purpose, and the verdict."""
