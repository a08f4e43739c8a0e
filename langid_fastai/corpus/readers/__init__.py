"""Readers of corpora: recognise the layout of a folder and make its index."""
