"""What the instructions of Dockerfiles do: `run` to a command, `copy` to files, `sources` and `accounts` for both."""
