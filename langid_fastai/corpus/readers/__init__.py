"""Readers of corpora: recognise the layout of a folder, and build its index."""
