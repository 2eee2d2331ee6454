"""The protocol of registries: how what they hold is named, asked for, and given to them. It knows no images.

`reference` says what is meant, `access` how the user wants registries reached. `http` is the one client of the network,
`auth` and `credentials` are how it shows who it is, `mirrors` where else the same is to be had. `client` has the
requests of the OCI distribution specification 1.1.
"""
