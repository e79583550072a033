# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""`python -m transom.demo`."""

import sys

try:
    import numpy  # noqa: F401
except ImportError:
    sys.exit("transom.demo needs NumPy: pip install numpy")

from .digits import main

sys.exit(main())
