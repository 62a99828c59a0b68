"""What can be trained: plug-ins that implement ``ithaca.runtime.workload.Workload``."""
