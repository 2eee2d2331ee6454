"""What text in the language of the shell says, found without running it."""
