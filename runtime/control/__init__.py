"""The gRPC control plane of a run."""
