"""Faults on purpose: what a drill does to a process, from inside it."""
