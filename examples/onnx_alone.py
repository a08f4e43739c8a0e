"""Use model.onnx without this library, with onnxruntime, NumPy, soundfile and soxr.

    langid export runs/mine
    python examples/onnx_alone.py runs/mine/model/model.onnx call.wav

The metadata of the file contain all settings that a program needs, so this can be ported to any
programming language that has onnxruntime. The answer for a recording is computed as by `langid
predict`, except that windows do not overlap and pauses are not skipped.
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile as sf
import soxr


def main(model: str, recording: str) -> None:
    """Print the probability of each language."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    vocab = json.loads(metadata["vocab"])
    sr = int(metadata["sr"])
    n_samples = round(sr * float(metadata["clip_seconds"]))

    y, sr_in = sf.read(recording, dtype="float32", always_2d=True)
    y = soxr.resample(y.mean(axis=1), sr_in, sr, quality="HQ")  # mono, at the model's sampling rate
    if len(y) < n_samples:
        y = np.resize(y, n_samples)  # repeat a short recording, as in training
    clips = y[: len(y) // n_samples * n_samples].reshape(-1, n_samples)

    [log_probs] = session.run(["log_probs"], {"waveform": clips})  # (n_clips, n_languages)
    mean = log_probs.mean(axis=0)
    probabilities = np.exp(mean - np.logaddexp.reduce(mean))
    for label, probability in sorted(zip(vocab, probabilities, strict=True), key=lambda p: -p[1]):
        print(f"{label} {probability:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
