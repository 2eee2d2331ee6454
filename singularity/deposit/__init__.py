"""Archives that give digital object identifiers: Zenodo, and others that InvenioRDM runs.

`records` finds the files of what was published, `drafts` puts an image into what will be, `citation` says who made it.
"""
