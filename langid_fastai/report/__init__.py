"""Write the report of a run: a single web page that can be shared.

`write_report` reads the output of training and evaluation from the run folder and writes
``report.html``. Images and audio are embedded as ``data:`` URIs. The page loads no other files and
runs no script, so it can be sent as a single file.

Conventions
-----------
- Every value on the page and in its plots is read from ``metrics.json``; only differences and
  counts are computed. Rates have 4 digits.
- Names of files, speakers and languages are untrusted. Jinja2 escapes all of them, labels in plots
  are drawn without mathematical typesetting, images are read only from the run's ``images`` folder,
  and audio only from the corpus.
- Each plot is drawn twice, for a light and a dark page.

Contents
--------
`page` reads the metrics and fills the templates, `figures` draws plots, `media` makes ``data:``
URIs of images and audio. ``templates/report.html.j2`` is the page, and the templates with a leading
underscore are its parts. `model_card` writes the model card, `console` formats the lines that
commands print, and `advice` describes what limits a run and suggests next steps.

The public names are imported on first use, so that `console` loads no matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
