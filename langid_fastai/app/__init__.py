"""A web page that identifies the language of a recording: ``langid app MODEL``.

The page is served by this machine; it loads nothing from other hosts and sends nothing to them.

Contents: `result` checks limits and scores a recording; `html` renders the result; `guard` rejects
unsafe requests; `server` is the page and its server, with Gradio (extra ``app``).
"""
