"""Makes ``tools`` importable, and nothing else: fixtures live beside the tests that use them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
