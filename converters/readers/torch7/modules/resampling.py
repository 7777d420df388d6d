"""Up-sampling: nn/SpatialUpSamplingNearest.lua, nn/SpatialUpSamplingBilinear.lua, nn/UpSampling.lua."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers


def _batch(g: GraphBuilder, module: Module, x: ir.Value, ranks: tuple[int, ...]) -> tuple[ir.Value, bool]:
    rank = g.rank(x)
    if rank not in ranks:
        raise module.error(f"its input must have {' or '.join(map(str, ranks))} dimensions, but has shape {g.shape(x)}")
    return (g.emit("Unsqueeze", x, [0]), True) if rank == 3 else (x, False)


def _nearest(g: GraphBuilder, module: Module, batch: ir.Value) -> ir.Value:
    scale = module.integer("scale_factor", least=1)
    shape = [*g.shape(batch)[:2], *(size * scale for size in g.fixed(batch, 2))]
    scales = np.array([1, 1] + [scale] * (g.rank(batch) - 2), dtype=np.float32)
    return g.emit(
        "Resize", batch, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", shape=shape
    )


def _linear(g: GraphBuilder, module: Module, batch: ir.Value, fields: tuple[str, ...]) -> ir.Value:
    """Interpolation between corners that stay corners. Source: THNN/generic/*UpSampling*linear.c."""
    axes = list(range(2, g.rank(batch)))
    scale = module.integer("scale_factor", least=1) if "scale_factor" in module else None
    sizes = tuple(size * scale for size in g.fixed(batch, 2)) if scale else tuple(module.integer(field, least=1) for field in fields)
    if max(sizes) > 1 << 20:
        raise module.error(f"its output would have size {sizes}")
    return g.emit(
        "Resize",
        batch,
        None,
        np.array([scale] * len(axes), dtype=np.float32) if scale else None,
        None if scale else list(sizes),
        mode="linear",
        coordinate_transformation_mode="align_corners",
        axes=axes,
        shape=[*g.shape(batch)[:2], *sizes],
    )


@lowers("nn.SpatialUpSamplingNearest")
def spatial_up_sampling_nearest(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Each pixel scale_factor times in both directions. Source: THNN/generic/SpatialUpSamplingNearest.c."""
    batch, single = _batch(g, module, x, (3, 4))
    out = _nearest(g, module, batch)
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.SpatialUpSamplingBilinear")
def spatial_up_sampling_bilinear(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Bilinear, by scale_factor or to oheight by owidth; corners stay corners. Source: THNN/generic/SpatialUpSamplingBilinear.c."""
    batch, single = _batch(g, module, x, (3, 4))
    out = _linear(g, module, batch, ("oheight", "owidth"))
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.UpSampling")
def up_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Nearest or (tri)linear up-sampling of (N, C, H, W) or (N, C, T, H, W). Source: nn/UpSampling.lua."""
    batch, _ = _batch(g, module, x, (4, 5))
    if module.text("mode", "nearest") == "nearest":
        return _nearest(g, module, batch)
    return _linear(g, module, batch, ("oheight", "owidth") if g.rank(batch) == 4 else ("odepth", "oheight", "owidth"))
