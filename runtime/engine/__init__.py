"""The engine of a worker: interprets Programs over a Channel, exactly."""
