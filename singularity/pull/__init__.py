"""What a URI names becomes a file that can be launched: images of layers are converted, once, and kept in the cache."""
