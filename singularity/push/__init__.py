"""Images on their way out: packed as OCI images or artifacts, and put into registries, layouts and archives."""
