"""Files of web servers, and the HTTP that registries speak too. Touches the network."""
