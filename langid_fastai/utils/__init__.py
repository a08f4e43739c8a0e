"""General helpers: atomic files and locks, worker processes, progress, versions."""
