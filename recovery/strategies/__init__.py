"""One answer to a failure per file, each behind ``ithaca.recovery.strategy.Strategy``."""
