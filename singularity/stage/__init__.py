"""Images copied to the nodes of a job: one node reads the shared file system, and all hand on what they have."""
