"""The page and the trace that tell what a run did."""
