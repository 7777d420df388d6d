"""Regions and boxes."""

from __future__ import annotations

import math

import torch


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


def max_roi_pool(
    x: torch.Tensor, rois: torch.Tensor, size: tuple[int, int], scale: float
) -> torch.Tensor:
    """x: (N, C, H, W), rois: (R, 5) as image, x1, y1, x2, y2."""
    result = torch.zeros(
        [rois.shape[0], x.shape[1], size[0], size[1]], dtype=x.dtype, device=x.device
    )
    height, width = x.shape[2], x.shape[3]
    for number in range(rois.shape[0]):
        image = int(rois[number, 0])
        corners = rois[number, 1:].double() * scale
        corners = (corners.abs() + 0.5).floor() * torch.where(corners >= 0, 1, -1)
        x1, y1, x2, y2 = int(corners[0]), int(corners[1]), int(corners[2]), int(corners[3])
        tall, wide = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
        for i in range(size[0]):
            top = min(max(int(math.floor(i * tall)) + y1, 0), height)
            bottom = min(max(int(math.ceil((i + 1) * tall)) + y1, 0), height)
            for j in range(size[1]):
                left = min(max(int(math.floor(j * wide)) + x1, 0), width)
                right = min(max(int(math.ceil((j + 1) * wide)) + x1, 0), width)
                if bottom > top and right > left:
                    window = x[image, :, top:bottom, left:right]
                    result[number, :, i, j] = window.flatten(1).amax(1)
    return result


def non_max_suppression(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    limit: int,
    overlap: float,
    threshold: float | None,
    centered: bool,
) -> torch.Tensor:
    """(K, 3): image, class, box. boxes: (N, B, 4), scores: (N, classes, B)."""
    if centered:
        x, y, w, h = boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]
        boxes = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    low = torch.minimum(boxes[..., :2], boxes[..., 2:])
    high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    area = (high - low).prod(-1)
    chosen: list[list[int]] = []
    for image in range(scores.shape[0]):
        for category in range(scores.shape[1]):
            score = scores[image, category]
            order = score.argsort(descending=True, stable=True)
            if threshold is not None:
                order = order[score[order] > threshold]
            count = 0
            while order.numel() > 0 and count < limit:
                best, order = int(order[0]), order[1:]
                chosen.append([image, category, best])
                count += 1
                top = torch.minimum(high[image, best], high[image, order])
                bottom = torch.maximum(low[image, best], low[image, order])
                shared = (top - bottom).clamp(min=0).prod(-1)
                union = area[image, best] + area[image, order] - shared
                order = order[~((union > 0) & (shared > overlap * union))]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)
