# The public names, and where they live: read by type checkers, and by __init__.py itself.

from .arch_names import mel_config_for
from .audio import load_audio, stream_audio
from .comparison import compare, comparison_lines
from .corpus.crawl import crawl_site
from .corpus.cut import CutResult, cut_corpus
from .corpus.index import Corpus, measure_audio
from .corpus.mix import mix_corpus, read_voices
from .corpus.mixture import MixConfig
from .corpus.pauses import CutRules
from .corpus.polite import Manners
from .corpus.read import read_corpus
from .corpus.remote import sync_corpus
from .corpus.site import AUDIO_LINGUA, Site
from .corpus.split import audit_split, split_corpus
from .errors import AudioError, CorpusError, LangidError, ModelError, RunError
from .evaluation import average_clips, evaluate, predict_images
from .features import feature_image
from .hub import load_hub
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
    SPEECH_SCHEDULE,
    Stage,
    discriminative,
    find_lr,
    fit_stages,
)
from .variant_plan import VariantPlan
from .variants import write_variants
from .waveform_augment import Augmentation, augment_waveform, parse_augmentations
from .waveforms import clip_kind

__version__: str
__all__ = [
    "AUDIO_LINGUA",
    "SCRATCH_SCHEDULE",
    "SEED_SCHEDULE",
    "SPEECH_SCHEDULE",
    "AudioError",
    "Augmentation",
    "Corpus",
    "CorpusError",
    "CutResult",
    "CutRules",
    "LangidError",
    "LanguageIdentifier",
    "Manners",
    "MelConfig",
    "MixConfig",
    "ModelError",
    "OnnxExport",
    "RunError",
    "Segment",
    "Site",
    "Stage",
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
    "read_clips",
    "read_corpus",
    "read_voices",
    "save_learner",
    "split_corpus",
    "stft_power",
    "stream_audio",
    "stream_pcm",
    "sync_corpus",
    "write_png",
    "write_report",
    "write_variants",
]
