"""Crawl a web site for recordings, and build an index of them (extra ``crawl``)."""
