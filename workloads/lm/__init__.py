"""A byte-level language model: a modern decoder, dense or with a mixture of experts."""
