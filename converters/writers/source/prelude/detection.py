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

    Also the (weights, indices) of the lower and of the upper neighbours.
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


def max_roi_pool(x, rois, size, scale):
    """x: (N, C, H, W), rois: (R, 5) as image, x1, y1, x2, y2."""
    result = x.new_zeros(len(rois), x.shape[1], *size)
    height, width = x.shape[2:]
    for number, (image, *roi) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (math.floor(abs(v * scale) + 0.5) * (1 if v >= 0 else -1) for v in roi)
        tall, wide = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
        for i in range(size[0]):
            top, bottom = (
                min(max(int(v) + y1, 0), height)
                for v in (math.floor(i * tall), math.ceil((i + 1) * tall))
            )
            for j in range(size[1]):
                left, right = (
                    min(max(int(v) + x1, 0), width)
                    for v in (math.floor(j * wide), math.ceil((j + 1) * wide))
                )
                if bottom > top and right > left:
                    result[number, :, i, j] = x[int(image), :, top:bottom, left:right].amax((1, 2))
    return result


def non_max_suppression(boxes, scores, limit, overlap, threshold, centred):
    """(K, 3): image, class, box. boxes: (N, B, 4), scores: (N, classes, B)."""
    if centred:
        x, y, w, h = boxes.unbind(-1)
        boxes = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    low = torch.minimum(boxes[..., :2], boxes[..., 2:])
    high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    area = (high - low).prod(-1)
    chosen = []
    for image in range(scores.shape[0]):
        for category in range(scores.shape[1]):
            score = scores[image, category]
            order = score.argsort(descending=True, stable=True)
            if threshold is not None:
                order = order[score[order] > threshold]
            kept = []
            while order.numel() and len(kept) < limit:
                best, order = order[0], order[1:]
                kept.append(int(best))
                shared = torch.minimum(high[image, best], high[image, order]) - torch.maximum(
                    low[image, best], low[image, order]
                )
                shared = shared.clamp(min=0).prod(-1)
                union = area[image, best] + area[image, order] - shared
                order = order[~((union > 0) & (shared > overlap * union))]
            chosen += [[image, category, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)
