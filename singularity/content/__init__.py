"""Content named by its digest: documents of the OCI image specification, and downloads that are checked."""
