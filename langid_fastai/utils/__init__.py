"""Helpers without a domain: atomic files and locks, worker processes, progress, versions."""
