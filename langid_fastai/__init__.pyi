# The public names and their modules: read by type checkers and by __init__.py.

from .audio.files import load_audio, stream_audio
from .audio.levels import remove_offset
from .audio.raw_pcm import stream_pcm
from .augmentation.plan import VariantPlan
from .augmentation.variants import write_variants
from .augmentation.waveform import Augmentation, augment_waveform, parse_augmentations
from .clips.export import export_images, read_clips
from .clips.image_kinds import feature_image
from .clips.waveforms import clip_kind
from .corpus.index import Corpus
from .corpus.make.cut import CutResult, cut_corpus
from .corpus.make.mix import mix_corpus, read_voices
from .corpus.make.settings import CutRules, MixConfig
from .corpus.measure import measure_audio
from .corpus.readers.recognise import read_corpus
from .corpus.s3 import sync_corpus
from .corpus.split import audit_split, split_corpus
from .crawl.client import Manners
from .crawl.crawler import crawl_site
from .crawl.site import AUDIO_LINGUA, Site
from .errors import AudioError, CorpusError, LangidError, ModelError, RunError
from .evaluation import average_clips, evaluate, predict_images
from .inference.bulk import Prediction
from .inference.onnx_export import OnnxExport, export_onnx
from .inference.timeline import Segment
from .learner import language_learner, load_learner, make_dataloaders, save_learner
from .models.names import mel_config_for
from .models.schedules import (
    SCRATCH_SCHEDULE,
    SEED_SCHEDULE,
    SPEECH_SCHEDULE,
    Stage,
    discriminative,
)
from .pipeline.compare import compare, comparison_lines
from .pipeline.hub_model import load_hub
from .pipeline.push import Pushed, push
from .pipeline.result import TrainResult
from .pipeline.run import evaluate_run, train
from .pipeline.settings import AugmentSettings, CorpusSettings, TrainSettings
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
from .training import find_lr, fit_stages

__version__: str
__all__ = [
    "AUDIO_LINGUA",
    "SCRATCH_SCHEDULE",
    "SEED_SCHEDULE",
    "SPEECH_SCHEDULE",
    "AudioError",
    "AugmentSettings",
    "Augmentation",
    "Corpus",
    "CorpusError",
    "CorpusSettings",
    "CutResult",
    "CutRules",
    "LangidError",
    "LanguageIdentifier",
    "Manners",
    "MelConfig",
    "MixConfig",
    "ModelError",
    "OnnxExport",
    "Prediction",
    "Pushed",
    "RunError",
    "Segment",
    "Site",
    "Stage",
    "TrainResult",
    "TrainSettings",
    "VariantPlan",
    "audit_split",
    "augment_waveform",
    "average_clips",
    "clip_kind",
    "clips_of",
    "compare",
    "comparison_lines",
    "crawl_site",
    "cut_corpus",
    "db_to_image",
    "discriminative",
    "evaluate",
    "evaluate_run",
    "export_images",
    "export_onnx",
    "feature_image",
    "find_lr",
    "fit_stages",
    "language_learner",
    "load_audio",
    "load_hub",
    "load_learner",
    "make_dataloaders",
    "measure_audio",
    "mel_config_for",
    "mel_filters",
    "mel_image",
    "mel_scale",
    "mix_corpus",
    "parse_augmentations",
    "power_to_db",
    "predict_images",
    "push",
    "read_clips",
    "read_corpus",
    "read_voices",
    "remove_offset",
    "save_learner",
    "split_corpus",
    "stft_power",
    "stream_audio",
    "stream_pcm",
    "sync_corpus",
    "train",
    "write_png",
    "write_report",
    "write_variants",
]
