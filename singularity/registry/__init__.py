"""The protocol of registries: how what they hold is named, asked for, and given to them. It knows no images.

`reference` says what is meant, `access` how the user wants registries reached; `auth` and `credentials` are how we show
who we are, `mirrors` where else the same is to be had. `client` has the requests of the OCI distribution specification.
"""
