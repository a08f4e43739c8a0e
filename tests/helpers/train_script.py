"""The console script `langid-train`, as created by pip."""

import sys

from langid_fastai.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
