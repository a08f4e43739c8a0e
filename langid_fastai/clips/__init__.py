"""Clips as files: the export of a split index to images or sound, and its manifest."""
