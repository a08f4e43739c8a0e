"""Make glide.amr and glide.3gp, which PyAV 19 and later can read but no longer write.

python tests/golden/make_glide_amr.py        with PyAV 18 or older
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from encoding import encode_anew, glide  # noqa: E402  # in tests/helpers

if __name__ == "__main__":
    for muxer in ("amr", "3gp"):
        encode_anew(HERE / f"glide.{muxer}", glide(8_000), 8_000, muxer, "libopencore_amrnb")
