"""Definition files: the model, the parser, and the templates in them."""
