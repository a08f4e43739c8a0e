"""Train spoken language identification models on your own recordings, by transfer learning.

::

    audio files ─► clip index ─► spectrogram images ─► DataLoaders ─► Learner ─► stages ─► test

The public names, listed in ``__init__.pyi``, are imported on first use: ``import langid_fastai`` is
instant and loads no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
