"""A search on the runtime: trials are trainings of a job, in parallel on a cluster."""
