"""Who made an image, and is it whole: signatures, the keys that make them, and key servers."""
