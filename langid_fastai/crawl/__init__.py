"""Crawl a web site for recordings, and write an index of them (extra ``crawl``)."""
