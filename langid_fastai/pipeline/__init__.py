"""The steps of a run, in one folder: prepare, train, evaluate, cross-validate, compare."""
