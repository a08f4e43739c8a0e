"""A run folder in, one web page out that a reader can check and pass on.

`write_report` reads what training and evaluation left in the folder and writes ``report.html``.
The page holds its pictures and sounds as ``data:`` URIs, loads nothing and runs no script, so it
can be sent as a single file.

Conventions
-----------
- Every figure on the page, and every point in its pictures, is read from ``metrics.json``; nothing
  is computed anew but differences and counts. Rates have 4 digits.
- Names of files, speakers and languages come from strangers: Jinja2 escapes all of them, labels in
  pictures are drawn without mathematical typesetting, images are taken from the run's ``images``
  folder only, and sound from the corpus only.
- Pictures are drawn twice, for a light and a dark page.

Contents
--------
`page` reads the figures and fills the templates, `figures` draws, `media` makes ``data:`` URIs of
pictures and sounds. ``templates/report.html.j2`` is the whole page, and each template with a
leading underscore a part of it. `model_card` writes the model card, `console` the lines that
commands print.

The public names are imported on first use, so that `console` loads no matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
