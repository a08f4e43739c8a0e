"""A web page that identifies the language of a recording: ``langid app MODEL``.

It runs on this machine: the page loads nothing from another host and sends nothing to one.

Contents: `result` checks limits and scores a recording; `html` renders the result; `guard` rejects
unsafe requests; `server` is the page and its server, with Gradio (extra ``app``).
"""
