"""Make one corpus from another: recordings cut at pauses, mixtures of several speakers."""
