"""The runtime: controller, workers, engine, control plane, checkpoints and events of a job."""
