"""A crawler that collects recordings from a web site, with an index (extra ``crawl``)."""
