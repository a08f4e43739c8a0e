"""What pip makes of the console script `langid-train`."""

import sys

from langid_fastai.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
