"""Images that only a key opens: gocryptfs, the keys to it, and where they lie in a SIF file."""
