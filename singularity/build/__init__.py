"""A definition becomes a root file system, and that an image: request, plan, steps, one rename."""
