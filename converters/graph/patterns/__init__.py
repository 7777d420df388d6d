"""Layers that exporters took apart (GELU, LayerNorm, attention ...), found again among a graph's operators."""
