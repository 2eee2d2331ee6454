"""Libraries of SIF files, servers that speak the open library API: which there are, and what is asked of them."""
