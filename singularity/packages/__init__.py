"""Which packages an image has, by the notes that package managers leave in it, and the documents that list them.

Nothing of the image is run or mounted; all that it says is foreign: damaged notes are left out with a warning.
"""
