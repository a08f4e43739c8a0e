"""Write the report of a run: a single web page that can be checked and shared.

`write_report` reads the output of training and evaluation from the run folder and writes
``report.html``. Images and audio are embedded as ``data:`` URIs; the page loads nothing and runs no
script, so it can be sent as a single file.

Conventions
-----------
- Every value on the page, and every point in its plots, is read from ``metrics.json``; only
  differences and counts are computed. Rates have 4 digits.
- Names of files, speakers and languages are untrusted: Jinja2 escapes all of them, labels in plots
  are drawn without mathematical typesetting, images are read from the run's ``images`` folder only,
  and audio from the corpus only.
- Plots are drawn twice, for a light and a dark page.

Contents
--------
`page` reads the metrics and fills the templates, `figures` draws, `media` makes ``data:`` URIs of
images and audio. ``templates/report.html.j2`` is the whole page, and each template with a leading
underscore a part of it. `model_card` writes the model card, `console` formats the lines that
commands print, and `advice` states what limits a run and the next step.

The public names are imported on first use, so that `console` loads no matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
