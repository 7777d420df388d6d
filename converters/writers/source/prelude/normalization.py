"""Batch normalization without the counter of batches."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, disable-error-code="var-annotated"

from __future__ import annotations

from torch import nn


class BatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d without num_batches_tracked, which the original doesn't have."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args):
        nn.Module._load_from_state_dict(self, *args)


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d without num_batches_tracked, which the original doesn't have."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args):
        nn.Module._load_from_state_dict(self, *args)


class BatchNorm3d(nn.BatchNorm3d):
    """nn.BatchNorm3d without num_batches_tracked, which the original doesn't have."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args):
        nn.Module._load_from_state_dict(self, *args)
