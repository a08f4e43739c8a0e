"""Run the command line in tests: small images, a small network, one process."""

import shlex
import sys

SR = 8000
MEL = shlex.split("--sr 8000 --clip-seconds 1 --n-fft 256 --hop-length 128 --n-mels 32")
ARCH = "spectrogram_cnn-w16-d4"
QUICK = MEL + shlex.split(f"--arch {ARCH} --weights none --batch-size 8 --jobs 1 --precision fp32")


def command_of(*argv):
    """Run `langid-train` with quick settings, in a separate process."""
    code = "from langid_fastai.cli import train_main; train_main()"
    return [sys.executable, "-c", code, *map(str, argv), *QUICK]
