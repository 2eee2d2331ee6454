"""Images that are made smaller: what launches with --trace have used of one, and what is kept of it for that."""
