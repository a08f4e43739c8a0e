# The public names, and where they live: read by type checkers, and by __init__.py itself.

from .audio import load_audio, stream_audio
from .corpus.index import Corpus, measure_audio
from .corpus.read import read_corpus
from .corpus.split import audit_split, split_corpus
from .errors import AudioError, CorpusError, LangidError, ModelError, RunError
from .evaluation import average_clips, evaluate, predict_images
from .images import export_images, read_clips
from .learner import language_learner, load_learner, make_dataloaders, save_learner
from .onnx_export import OnnxExport, export_onnx
from .pcm import stream_pcm
from .prediction import LanguageIdentifier
from .preprocessing import (
    MelConfig,
    clips_of,
    db_to_image,
    mel_filters,
    mel_image,
    mel_scale,
    power_to_db,
    stft_power,
    write_png,
)
from .report import write_report
from .timeline import Segment
from .training import (
    SCRATCH_SCHEDULE,
    SEED_SCHEDULE,
    Stage,
    discriminative,
    find_lr,
    fit_stages,
)

__version__: str
__all__ = [
    "SCRATCH_SCHEDULE",
    "SEED_SCHEDULE",
    "AudioError",
    "Corpus",
    "CorpusError",
    "LangidError",
    "LanguageIdentifier",
    "MelConfig",
    "ModelError",
    "OnnxExport",
    "RunError",
    "Segment",
    "Stage",
    "audit_split",
    "average_clips",
    "clips_of",
    "db_to_image",
    "discriminative",
    "evaluate",
    "export_images",
    "export_onnx",
    "find_lr",
    "fit_stages",
    "language_learner",
    "load_audio",
    "load_learner",
    "make_dataloaders",
    "measure_audio",
    "mel_filters",
    "mel_image",
    "mel_scale",
    "power_to_db",
    "predict_images",
    "read_clips",
    "read_corpus",
    "save_learner",
    "split_corpus",
    "stft_power",
    "stream_audio",
    "stream_pcm",
    "write_png",
    "write_report",
]
