"""The cache directory: images by key, blobs by digest, layers of builds; where it is, and what is in it."""
