"""Layers on boxes and regions: prior boxes, detections, proposals, pools of regions."""

from __future__ import annotations

import ast
import math

import numpy as np

F = np.float32


# -- single shot ---------------------------------------------------------------------------------------------------------------


def _of_cell(p, meaning):
    """(width, height, right, down) of the boxes of a cell, in pixels."""
    boxes = []
    ratios = [1.0]
    for ratio in p.all("aspect_ratio"):
        if min(abs(ratio - r) for r in ratios) > 1e-6:
            ratios += [ratio, 1 / ratio] if p.get("flip", True) else [ratio]
    for k, size in enumerate(p.all("min_size")):
        size = int(size)
        if meaning == "FaceBoxes":
            shifts = {32: (-16, -8, 0, 8), 64: (-16, 0)}.get(size, (0,))
            boxes += [(size - 1, size - 1, right, down) for down in shifts for right in shifts]
        else:
            boxes.append((size, size, 0, 0))
        if p.all("max_size"):
            boxes.append((math.sqrt(size * int(p.all("max_size")[k])),) * 2 + (0, 0))
        boxes += [(size * math.sqrt(r), size / math.sqrt(r), 0, 0) for r in ratios if abs(r - 1) > 1e-6]
    return boxes


def prior_boxes(layer, x, image, meaning=""):
    p = layer.get("prior_box_param")
    clustered = list(zip(p.all("width"), p.all("height"), strict=True))
    boxes = [(w, h, 0, 0) for w, h in clustered] if clustered else _of_cell(p, meaning)
    height, width = (p.get(n, p.get("img_size", image.shape[a])) for n, a in (("img_h", 2), ("img_w", 3)))
    steps = [p.get(n, p.get("step", 0)) for n in ("step_h", "step_w")]
    if 0 in steps:
        steps = [height / x.shape[2], width / x.shape[3]]
    rows = []
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            cy, cx = (i + p.get("offset", 0.5)) * steps[0], (j + p.get("offset", 0.5)) * steps[1]
            for w, h, right, down in boxes:
                a, b = cx + right, cy + down
                rows.append([(a - w / 2) / width, (b - h / 2) / height, (a + w / 2) / width, (b + h / 2) / height])
    table = np.array(rows)
    if p.get("clip", False):
        table = table.clip(0, 1)
    variance = p.all("variance") or [0.1]
    variance = variance * 4 if len(variance) == 1 else variance
    return np.stack([table.ravel(), np.tile(variance, len(rows))])[None]


def overlaps(box, others):
    """Intersections over unions of one box with others."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.where((size > 0).all(1), size[:, 0] * size[:, 1], 0)

    def area(b):
        w, h = b[..., 2] - b[..., 0], b[..., 3] - b[..., 1]
        return np.where((w < 0) | (h < 0), 0, w * h)

    whole = area(box) + area(others) - shared
    return np.where(shared > 0, shared / np.where(whole > 0, whole, 1), 0)


def suppressed(boxes, order, threshold, *, most=None, eta=1.0, drop=np.greater):
    """The places of `order` that no better one covers."""
    kept = []
    for place in order:
        if kept and drop(overlaps(boxes[place], boxes[kept]), F(threshold)).any():
            continue
        kept.append(place)
        if len(kept) == most:
            break
        if eta < 1 and threshold > 0.5:
            threshold *= eta
    return kept


def _decoded(prior, variance, moves, code):
    moves = moves * variance
    if code == "CORNER":
        return prior + moves
    size = prior[:, 2:] - prior[:, :2]
    if code == "CORNER_SIZE":
        return prior + moves * np.tile(size, 2)
    center, half = (prior[:, 2:] + prior[:, :2]) / 2 + moves[:, :2] * size, size * np.exp(moves[:, 2:]) / 2
    return np.concatenate([center - half, center + half], 1)


def detections(layer, loc, conf, priors, arm_conf=None, arm_loc=None):
    p = layer.get("detection_output_param")
    nms = p.get("nms_param")
    classes, code = p.get("num_classes"), p.get("code_type", "CORNER")
    prior, variance = priors.astype(F).reshape(2, -1, 4)
    variance = np.ones_like(variance) if p.get("variance_encoded_in_target", False) else variance
    rows = []
    for image in range(len(loc)):
        scores = conf[image].astype(F).reshape(-1, classes)
        own = prior
        if arm_conf is not None:
            none = arm_conf[image].reshape(-1, 2)[:, 1] < p.get("objectness_score", 0.01)
            scores = np.where(none[:, None], np.eye(classes)[0], scores)
        if arm_loc is not None:
            own = _decoded(prior, variance, arm_loc[image].astype(F).reshape(-1, 4), code)
        boxes = _decoded(own, variance, loc[image].astype(F).reshape(-1, 4), code)
        boxes = boxes.clip(0, 1) if p.get("clip", False) else boxes
        found = []
        for label in range(classes):
            if label == p.get("background_label_id", 0):
                continue
            order = np.argsort(-scores[:, label], kind="stable")
            order = order[scores[order, label] > p.get("confidence_threshold", -np.inf)]
            top = nms.get("top_k", -1)
            order = order if top < 0 else order[:top]
            for k in suppressed(boxes, order, nms.get("nms_threshold", 0.3), eta=nms.get("eta", 1.0)):
                found.append([image, label, scores[k, label], *boxes[k]])
        keep = p.get("keep_top_k", -1)
        if 0 <= keep < len(found):
            found = sorted(found, key=lambda row: -row[2])[:keep]
        rows += sorted(found, key=lambda row: row[1])
    return np.array(rows or [[i, *[-1] * 6] for i in range(len(loc))]).reshape(1, 1, -1, 7)


def yolo3(layer, *maps):
    p = layer.get("yolov3_detection_output_param")
    classes, count, biases, mask = p.get("num_classes"), p.get("num_box", 3), p.all("biases"), p.all("mask")
    group = len(mask) // p.get("mask_group_num", 2)
    boxes, scores, labels = [], [], []

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    for index, x in enumerate(maps):
        n, _, h, w = x.shape
        x = x.astype(F).reshape(n, count, 5 + classes, h, w)
        for at in np.ndindex(n, count, h, w):
            image, k, i, j = at
            v = x[image, k, :, i, j]
            anchor = mask[index * group + k]
            cx, cy = (j + sigmoid(v[0])) / w, (i + sigmoid(v[1])) / h
            scale = p.all("anchors_scale")[index]
            bw, bh = np.exp(v[2]) * biases[2 * anchor] / (w * scale), np.exp(v[3]) * biases[2 * anchor + 1] / (h * scale)
            each = sigmoid(v[4]) * sigmoid(v[5:])
            for c in np.flatnonzero(each > p.get("confidence_threshold", 0.01)):
                boxes.append([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2])
                scores.append(each[c])
                labels.append(c + 1)
    if not boxes:
        return np.array([[i, *[-1] * 6] for i in range(len(maps[0]))], F).reshape(1, 1, -1, 7)
    boxes, scores = np.array(boxes, F), np.array(scores, F)
    kept = suppressed(boxes, np.argsort(-scores, kind="stable"), p.get("nms_threshold", 0.45), drop=np.greater_equal)
    return np.array([[0, labels[k], scores[k], *boxes[k]] for k in kept], F).reshape(1, 1, -1, 7)


# -- proposals -----------------------------------------------------------------------------------------------------------------


def _anchors(ratios, scales, base, rounded):
    rows = []
    for ratio in ratios:
        width = rounded(math.sqrt(base * base / ratio))
        height = rounded(width * ratio)
        for scale in scales:
            w, h, c = width * scale, height * scale, (base - 1) / 2
            rows.append([c - (w - 1) / 2, c - (h - 1) / 2, c + (w - 1) / 2, c + (h - 1) / 2])
    return np.array(rows)


def _moved(anchors, stride, prob, moves, info):
    """Boxes held to the image, and their scores, in the order (row, column, anchor)."""
    count = len(anchors)
    rows, columns = np.mgrid[: prob.shape[2], : prob.shape[3]] * stride
    shifts = np.stack([columns, rows, columns, rows], 2)[:, :, None]
    boxes = (shifts + anchors).reshape(-1, 4)
    d = moves.transpose(0, 2, 3, 1).reshape(-1, 4)
    scores = prob[:, count:].transpose(0, 2, 3, 1).ravel()
    size = boxes[:, 2:] - boxes[:, :2] + 1
    center = boxes[:, :2] + size / 2 + d[:, :2] * size
    half = np.exp(d[:, 2:]) * size / 2
    made = np.concatenate([center - half, center + half], 1)
    limit = np.array([info[0, 1], info[0, 0]] * 2) - 1
    return np.maximum(np.minimum(made, limit), 0), scores


def _best(boxes, scores, before, after, threshold):
    order = np.argsort(-scores, kind="stable")[:before]
    grown = boxes + np.array([0, 0, 1, 1])
    kept = suppressed(grown, order, threshold, most=after)
    return np.concatenate([np.zeros((len(kept), 1)), boxes[kept]], 1), scores[kept]


def proposed(layer, prob, moves, info, most=None):
    """py-faster-rcnn's ProposalLayer; SSH's where it says how many: the best boxes, which it doesn't suppress."""
    text = layer.get("python_param").get("param_str").replace("!!python/tuple", "")
    given = ast.literal_eval(text if text.strip().startswith("{") else "{" + ",".join(text.strip().splitlines()) + "}")
    anchors = _anchors(given.get("ratios", [0.5, 1, 2]), given.get("scales", (8, 16, 32)), 16, round)
    boxes, scores = _moved(anchors, given["feat_stride"], prob, moves, info)
    if most is not None:
        order = np.argsort(-scores, kind="stable")[:most]
        return np.pad(boxes[order], ((0, 0), (1, 0))), scores[order, None]
    large = (boxes[:, 2:] - boxes[:, :2] + 1 >= 16 * info[0, 2]).all(1)
    rois, kept = _best(boxes[large], scores[large], 6000, 300, 0.7)
    return rois, kept[:, None]


def proposed_by_pvanet(layer, prob, moves, info):
    p = layer.get("proposal_param")
    anchors = _anchors(p.all("ratio"), p.all("scale"), p.get("base_size", 16), lambda v: math.floor(v + 0.5))
    boxes, scores = _moved(anchors, p.get("feat_stride", 16), prob, moves, info)
    size = boxes[:, 2:] - boxes[:, :2] + 1
    least = p.get("min_size", 16)
    scores = np.where((size[:, 1] >= least * info[0, 2]) & (size[:, 0] >= least * info[0, 3]), scores, 0)
    return _best(boxes, scores, p.get("pre_nms_topn", 6000), p.get("post_nms_topn", 300), p.get("nms_thresh", 0.7))


def text_lines(layer, prob, moves, info):
    """CTPN's ProposalLayer, cell by cell."""
    boxes, scores = [], []
    for y, x in np.ndindex(prob.shape[2:]):
        for k, height in enumerate((11, 16, 23, 33, 48, 68, 97, 139, 198, 283)):
            left, right = 16 * x + int(7.5 - 8), 16 * x + int(7.5 + 8)
            top, bottom = 16 * y + int(7.5 - height // 2), 16 * y + int(7.5 + height // 2)
            tall = bottom - top + 1
            middle, grown = moves[0, 2 * k, y, x] * tall + (top + bottom) / 2, np.exp(moves[0, 2 * k + 1, y, x]) * tall
            boxes.append([left, middle - grown / 2, right, middle + grown / 2])
            scores.append([prob[0, 10 + k, y, x]])
    limit = np.array([info[0, 1], info[0, 0]] * 2) - 1
    return np.maximum(np.minimum(boxes, limit), 0), np.array(scores)


# -- regions -------------------------------------------------------------------------------------------------------------------


def _nearest(v):
    return math.floor(abs(v) + 0.5) * (1 if v >= 0 else -1)


def pooled_regions(layer, x, rois):
    p = layer.get("roi_pooling_param")
    height, width, scale = p.get("pooled_h"), p.get("pooled_w"), F(p.get("spatial_scale", 1))
    y = np.zeros((len(rois), x.shape[1], height, width))
    for r, roi in enumerate(rois.reshape(-1, 5).astype(F)):
        x0, y0, x1, y1 = (_nearest(c * scale) for c in roi[1:])
        tall, wide = F(max(y1 - y0 + 1, 1)) / F(height), F(max(x1 - x0 + 1, 1)) / F(width)
        for i, j in np.ndindex(height, width):
            a, b = (min(max(int(v) + y0, 0), x.shape[2]) for v in (np.floor(F(i) * tall), np.ceil(F(i + 1) * tall)))
            c, d = (min(max(int(v) + x0, 0), x.shape[3]) for v in (np.floor(F(j) * wide), np.ceil(F(j + 1) * wide)))
            seen = x[int(roi[0]), :, a:b, c:d]
            y[r, :, i, j] = seen.max((1, 2)) if seen.size else 0
    return y


def position_sensitive(layer, x, rois):
    p = layer.get("psroi_pooling_param")
    k, outputs, scale = p.get("group_size"), p.get("output_dim"), F(p.get("spatial_scale"))
    y = np.zeros((len(rois), outputs, k, k))
    for r, roi in enumerate(rois.reshape(-1, 5).astype(F)):
        x0, y0 = (F(_nearest(c)) * scale for c in roi[1:3])
        x1, y1 = (F(_nearest(c) + 1) * scale for c in roi[3:])
        tall, wide = max(y1 - y0, F(0.1)) / F(k), max(x1 - x0, F(0.1)) / F(k)
        for i, j in np.ndindex(k, k):
            a, b = (min(max(int(v), 0), x.shape[2]) for v in (np.floor(F(i) * tall + y0), np.ceil(F(i + 1) * tall + y0)))
            c, d = (min(max(int(v), 0), x.shape[3]) for v in (np.floor(F(j) * wide + x0), np.ceil(F(j + 1) * wide + x0)))
            if b > a and d > c:
                for o in range(outputs):
                    y[r, o, i, j] = x[int(roi[0]), (o * k + i) * k + j, a:b, c:d].mean()
    return y
