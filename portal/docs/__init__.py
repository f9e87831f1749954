"""The public documentation: pages, their samples (one file each, run by the tests), and the relay's own tables."""
