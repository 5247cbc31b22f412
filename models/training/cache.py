"""Where data, libraries, checkpoints and logs of the training lie."""
import os
from pathlib import Path

CACHE = Path(os.environ.get("SMALLEST_CACHE") or Path.home() / ".cache" / "smallest") / "train"
