"""Make ``model_format_1/``: what version 0.1.0 wrote of a model, before models were calibrated.

    git worktree add /tmp/old 416784a
    PYTHONPATH=/tmp/old python tests/golden/make_model_format_1.py

Not to be made anew by a later version: it stands for the folders that users have. Of the tensors,
only names, types and shapes are kept; the test fills them.
"""

import json
import tempfile
from pathlib import Path

from safetensors import safe_open

from langid_fastai.models.folder import FORMAT_VERSION, ModelInfo, write_model
from langid_fastai.models.networks import build_network
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.environment import library_versions

FOLDER = Path(__file__).parent / "model_format_1"


def main() -> None:
    if FORMAT_VERSION != 1:
        raise SystemExit(f"this version writes format {FORMAT_VERSION}; see above")
    network = build_network("squeezenet1_1", 3)
    info = ModelInfo(
        arch="squeezenet1_1",
        vocab=("de", "en", "es"),
        mel=MelConfig(8000, 1.0, 256, 128, 32),
        training={
            "schedule": "scratch",
            "weights": "none",
            "seed": 0,
            "heard": ["010409e678efda1f"],
        },
        versions=library_versions(),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), network.state_dict(), info)
        with safe_open(Path(folder) / "model.safetensors", framework="numpy") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118  # no dict
            shapes = {name: [part.get_dtype(), part.get_shape()] for name, part in parts.items()}
        FOLDER.mkdir(exist_ok=True)
        lines = [f"  {json.dumps(name)}: {json.dumps(shapes[name])}" for name in sorted(shapes)]
        (FOLDER / "tensors.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        (FOLDER / "model.json").write_bytes((Path(folder) / "model.json").read_bytes())


if __name__ == "__main__":
    main()
