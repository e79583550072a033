# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The demonstration: `python -m transom.demo` trains a classifier of handwritten digits on several chips."""
