"""Processes in namespaces of their own: isolated from the machine, or root of a user namespace."""
