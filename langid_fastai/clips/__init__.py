"""Export the clips of a split corpus to image or audio files, with a manifest."""
