"""The cache directory: images by key, blobs by digest, layers of builds; where it is, what is in it, and its removal."""
