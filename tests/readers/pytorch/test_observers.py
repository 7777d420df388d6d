"""Observers of torch 1.3, whose ranges are plain attributes that their classes saved with the state_dict."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import converters


def test_ranges_that_are_plain_attributes_are_weights(tmp_path, monkeypatch):
    import torch.quantization.observer as observers

    class MinMaxObserver(nn.Module):
        def __init__(self):
            super().__init__()
            self.min_val, self.max_val = torch.tensor(-1.5), torch.tensor(2.0)

    MinMaxObserver.__module__, MinMaxObserver.__qualname__ = "torch.quantization.observer", "MinMaxObserver"
    monkeypatch.setattr(observers, "MinMaxObserver", MinMaxObserver)
    net = nn.Sequential(nn.Linear(2, 3), MinMaxObserver())
    torch.save(net, tmp_path / "net.pth")
    weights = converters.load_weights(tmp_path / "net.pth")
    assert list(weights) == ["0.weight", "0.bias", "1.min_val", "1.max_val"]
    assert np.asarray(weights["1.min_val"]) == -1.5 and np.asarray(weights["1.max_val"]) == 2
