"""The net 'detection' in PyTorch; detection.pth has its weights.

    model = build("detection.pth")

Inputs: data (N, 4, 6, 6); rois (N_rois, 4); batch (N_batch). Outputs: prob (N_rois, 4, 2, 2).
"""

import math

import torch
from torch import nn


@torch.fx.wrap
def roi_align(x, rois, batch, size, ratio, scale, offset, mode):
    """x: (N, C, H, W), rois: (R, 4) as x1, y1, x2, y2, batch: (R,)."""
    result = x.new_zeros(len(rois), x.shape[1], *size)
    for number, (roi, image) in enumerate(zip(rois.tolist(), batch.tolist())):
        x1, y1, x2, y2 = (v * scale - offset for v in roi)
        width, height = x2 - x1, y2 - y1
        if offset == 0:
            width, height = max(width, 1.0), max(height, 1.0)
        bins = height / size[0], width / size[1]
        grid = [ratio if ratio > 0 else int(math.ceil(b)) for b in bins]
        ys = roi_samples(y1, bins[0], size[0], grid[0], x.device)
        xs = roi_samples(x1, bins[1], size[1], grid[1], x.device)
        rows, columns = roi_weights(ys, x.shape[2], x.dtype), roi_weights(xs, x.shape[3], x.dtype)
        if mode == "avg":
            if grid[0] > 0 and grid[1] > 0:
                samples = rows[0] @ x[image] @ columns[0].t()
                samples = samples.unflatten(2, (size[1], grid[1])).unflatten(1, (size[0], grid[0]))
                result[number] = samples.mean((2, 4))
        else:  # ONNX takes the maximum over the four weighted corners of all samples
            corners = []
            for low_y in (1, 2):
                for low_x in (1, 2):
                    corner = x[image][:, rows[low_y][1]][:, :, columns[low_x][1]]
                    corners.append(corner * rows[low_y][0].unsqueeze(1) * columns[low_x][0])
            samples = torch.stack(corners).amax(0)
            samples = samples.unflatten(2, (size[1], grid[1])).unflatten(1, (size[0], grid[0]))
            result[number] = samples.amax((2, 4))
    return result


def roi_samples(start, step, bins, grid, device):
    """The sample positions of all bins, in order."""
    bin_starts = start + torch.arange(bins, dtype=torch.float64, device=device) * step
    inside = (torch.arange(grid, dtype=torch.float64, device=device) + 0.5) * (step / max(grid, 1))
    return (bin_starts.unsqueeze(1) + inside).flatten()


def roi_weights(places, length, dtype):
    """A (samples, length) matrix of bilinear weights.

    Also the (weights, indices) of the lower and of the upper neighbors.
    """
    inside = (places >= -1) & (places <= length)
    places = places.clamp(0)
    low = places.floor().long()
    at_end = low >= length - 1
    low = low.clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    fraction = torch.where(at_end, torch.zeros_like(places), places - low)
    near, far = ((1 - fraction) * inside).to(dtype), (fraction * inside).to(dtype)
    matrix = torch.zeros(len(places), length, dtype=dtype, device=places.device)
    rows = torch.arange(len(places), device=places.device)
    matrix.index_put_((rows, low), near, accumulate=True)
    matrix.index_put_((rows, high), far, accumulate=True)
    return matrix, (near, low), (far, high)


class Detection(nn.Module):
    def forward(self, data: torch.Tensor, rois: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        # net.prototxt:10 align (RoiAlign)
        x = roi_align(data, rois, batch, (2, 2), 2, 0.5, 0.5, "avg")
        return x


def build(weights: str | None = None) -> Detection:
    """The model in eval mode. weights: the file of its state_dict, such as "detection.pth"."""
    model = Detection()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
