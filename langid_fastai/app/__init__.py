"""A page in the browser that names the language of a recording: ``langid app MODEL``.

It runs on this machine: the page loads nothing from another host, and nothing is sent to one.

Contents: `request`, a recording within limits → what is said of it; `html`, that → HTML; `guard`,
what the server refuses; `server`, the page itself and its server, by Gradio (extra ``app``).
"""
