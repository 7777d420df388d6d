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
        if image < 0 or image >= x.shape[0]:
            raise IndexError("a region is of an image that isn't there")
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
    if boxes.shape[0] != scores.shape[0] or boxes.shape[1] != scores.shape[2]:
        raise ValueError(f"boxes of {list(boxes.shape)} and scores of {list(scores.shape)}")
    if centered:
        x, y, w, h = boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]
        boxes = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    low = torch.minimum(boxes[..., :2], boxes[..., 2:])
    high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    table = torch.cat([low, high, (high - low).prod(-1, keepdim=True)], -1).transpose(1, 2)
    chosen: list[torch.Tensor] = []
    for image in range(scores.shape[0]):
        for category in range(scores.shape[1]):
            score = scores[image, category]
            order = score.argsort(descending=True, stable=True)
            if threshold is not None:
                order = order[score[order] > threshold]
            best = order[not_covered(table[image][:, order], limit, overlap)]
            rows = torch.zeros([best.shape[0], 3], dtype=torch.int64, device=boxes.device)
            rows[:, 0] = image
            rows[:, 1] = category
            rows[:, 2] = best
            chosen.append(rows)
    if len(chosen) == 0:
        return torch.zeros([0, 3], dtype=torch.int64, device=boxes.device)
    return torch.cat(chosen)


def not_covered(boxes: torch.Tensor, limit: int, overlap: float) -> torch.Tensor:
    """The places of boxes, best first, that no better one covers; blocks of them at a time.

    boxes: (5, B), low corner, high corner and area.
    """
    kept = torch.zeros([0], dtype=torch.int64, device=boxes.device)
    start = 0
    while start < boxes.shape[1] and kept.shape[0] < limit:
        block = torch.arange(start, min(start + 512, boxes.shape[1]), device=boxes.device)
        start += 512
        if kept.shape[0] > 0:
            hidden = covers(boxes[:, kept], boxes[:, block], overlap)
            block = block[hidden.sum(0) == 0]
        own = boxes[:, block]
        mutual = covers(own, own, overlap).triu_(1)
        alive = torch.ones([block.shape[0]], dtype=boxes.dtype, device=boxes.device)
        settled = False
        while not settled:  # a box that is covered covers none: a few rounds settle that
            now = ((alive @ mutual) == 0).to(boxes.dtype)
            settled = bool((now == alive).all())
            alive = now
        kept = torch.cat([kept, block[alive > 0]])
    return kept[:limit]


def covers(first: torch.Tensor, second: torch.Tensor, overlap: float) -> torch.Tensor:
    """1 where a box of the first (5, A) shares more than `overlap` with one of the second."""
    a, b = first.unsqueeze(2), second.unsqueeze(1)
    shared = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
    shared.mul_(torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0))
    union = (a[4] + b[4]).sub_(shared)
    return shared.div_(union).gt_(overlap)  # without an area it is 0 / 0, which is above nothing
