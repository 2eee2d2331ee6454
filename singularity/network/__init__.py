"""Networks of root's containers: namespaces that are there, and those that plugins of CNI set up and take down."""
