"""What could be wrong with this installation and this host, each with what mends it; nothing is changed by looking."""
