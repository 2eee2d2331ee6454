"""Moving over from another program of the family: what its users and its site have there is read, and taken over.

Nothing of theirs is changed, and nothing of ours is replaced: what is here already stays. Each thing has one `Outcome`.
"""
