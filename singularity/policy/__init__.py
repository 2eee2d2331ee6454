"""Which images may come from where, and by whom they must be signed: policies, and the signatures of registries."""
