"""What would fail in a job, said before it runs: nothing of the image is executed, and nothing is unpacked."""
