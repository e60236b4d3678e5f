"""portable_nn beside the libraries that people would otherwise install: the same rows of work, each peer in a process of its own."""
